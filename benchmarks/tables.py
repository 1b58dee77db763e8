"""Puts the tables made from benchmarks/results/*.json between the markers of README.md and docs/*.md.

    python -m benchmarks.tables [--check]

A table NAME stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`; a text uses those it wants.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Document = dict[str, Any]


def transcript(document: Document) -> str:
    """Word error rate of every system, wide band and telephone band."""
    rows: dict[str, dict[str, str]] = {}
    for result in document["results"]:
        low, high = result["wer_95"]
        cell = f"{result['wer']:.1%} ({low:.1%} to {high:.1%})"
        rows.setdefault(result["system"], {})[result["band"]] = cell
    bands = list(dict.fromkeys(result["band"] for result in document["results"]))
    table = _table(
        ["word error rate (95 % interval)", *bands], [[s, *(row[b] for b in bands)] for s, row in rows.items()]
    )
    data = document["data"]
    return f"{table}\n\n{data['name']}: {data['clips']} clips of {data['speakers']} speakers. {_source(document)}"


def speed(document: Document) -> str:
    """Every recogniser's speed with its word error rate beside it, and how many times as fast ours is."""
    rows = document["recognisers"]
    ours = {row["threads"]: row["rtf"] for row in rows if row["system"].startswith("affectline")}
    body = [
        [
            row["system"],
            str(row["threads"]),
            f"{row['clip_ms']:.0f} ms",
            f"{row['rtf']:.3f}",
            f"{row['rtf'] / ours[row['threads']]:.1f}×",
            "" if row["wer"] is None else f"{row['wer']:.1%}",
            f"{row['peak_mb']} MB",
        ]
        for row in rows
    ]
    heads = ["recogniser", "threads", "per clip", "real-time factor", "against ours", "word error rate", "peak memory"]
    data = document["data"]
    return (
        f"{_table(heads, body)}\n\n{data['name']}: {data['clips']} clips, {data['audio_s']:.0f} s in all; "
        f"medians of {data['repeats']} rounds, the systems taking turns. {_source(document)}"
    )


def stages(document: Document) -> str:
    """Real-time factor per stage, on single utterances and on a two-party call."""
    columns = [
        (f"{kind}, {run['threads']} thread{'s' * (run['threads'] > 1)}", run["rtf"])
        for kind, name in (("utterances", "utterances"), ("two-party call", "call"))
        for run in document["stages"][name]
    ]
    body = [[stage, *(f"{rtf[stage]:.4f}" for _, rtf in columns)] for stage in columns[0][1]]
    runs = document["stages"]["call"]
    memory = (
        f"Loading takes {max(run['load_s'] for run in runs):.1f} s, peak memory {max(r['peak_mb'] for r in runs)} MB."
    )
    return f"{_table(['real-time factor', *(name for name, _ in columns)], body)}\n\n{memory} {_source(document)}"


def voice(*documents: Document) -> str:
    """In-corpus beside cross-corpus, wide beside telephone band, without and with a site baseline."""
    rows: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for document in documents:
        most = max(r["classes"] for r in document["results"])
        for result in document["results"]:
            inside = result["system"].startswith("same corpus") and result["classes"] == most
            if inside or result["system"] == document["model"]:
                name = "speakers held out" if inside else f"{result['system']}, which never heard it"
                key = (f"{document['data']['name']}: {name}", str(result["classes"]))
                low, high = result["uar_95"]
                cell = f"{result['uar']:.2f} ({low:.2f} to {high:.2f}), {result['ece']:.2f}"
                rows.setdefault(key, {})[result["band"], result["site"]] = cell
    columns = [("wide", "off"), ("wide", "on"), ("telephone", "off"), ("telephone", "on")]
    heads = ["recall (95 % interval), calibration error", "classes", "wide", "with site", "telephone", "with site"]
    body = [[*key, *(cells.get(column, "") for column in columns)] for key, cells in rows.items()]
    return f"{_table(heads, body)}\n\n{_source(documents[0])}"


def gate(document: Document) -> str:
    """What the speech gate finds, by its network alone and with its second look."""
    ways = ("network_alone", "with_second_look")
    body = [
        [
            name.replace("_", " ").replace("no speech", "music, rings, noises"),
            str(found["clips"]),
            f"{found['minutes']:g} min",
        ]
        + [str(found[way]["without_speech"]) for way in ways]
        + [f"{found[way]['share_of_speech']:.1%}" for way in ways]
        for name, found in document["results"].items()
    ]
    heads = ["", "clips", "length", "without speech: network alone", "with a second look", "speech: network alone"]
    return f"{_table([*heads, 'with a second look'], body)}\n\n{_source(document)}"


MEASURES = ("precision", "recall")


def facts(document: Document) -> str:
    """Precision and recall of each kind, on the half for tuning and on the other."""
    body = [
        [kind.replace("_", " "), part, str(result[kind]["expected"])]
        + [f"{r['value']:.2f} ({r['95'][0]:.2f} to {r['95'][1]:.2f})" for r in map(result[kind].get, MEASURES)]
        for kind in ("issue", "commitment", "open_question")
        for part, result in sorted(document["results"].items(), reverse=True)
    ]
    heads = ["kind", "half", "expected", "precision (95 % interval)", "recall (95 % interval)"]
    return f"{_table(heads, body)}\n\n{_source(document)}"


def call_stages(document: Document) -> str:
    """Turns in the right stage, on the half for tuning and on the other."""
    halves = [document["results"][part] for part in ("test", "dev")]
    body = [["calls, turns", *(f"{half['dialogues']}, {half['turns']}" for half in halves)]]
    for name, title in (("whole", "turns in the right stage at the end (95 % interval)"), ("live", "the same, live")):
        shares = [(half[name]["value"], *half[name]["95"]) for half in halves]
        body.append([title, *(f"{value:.2f} ({low:.2f} to {high:.2f})" for value, low, high in shares)])
    ends = [half["boundaries"] for half in halves]
    body.append(["boundaries: recall, precision", *(f"{each['recall']:.2f}, {each['precision']:.2f}" for each in ends)])
    for stage in halves[0]["stages"]:
        own = [half["stages"][stage] for half in halves]
        title = f"{stage}: recall, precision, of {' and '.join(str(each['turns']) for each in own)} turns"
        body.append([title, *(f"{each['recall']:.2f}, {each['precision']:.2f}" for each in own)])
    return f"{_table(['', 'test half', 'dev half'], body)}\n\n{_source(document)}"


def text(document: Document) -> str:
    """Classes and polarity, with what it costs."""
    classes, polarity, cost = document["classes"], document["polarity"], document["cost"]
    low, high = classes["macro_f1_95"]
    body = [
        [
            document["model"],
            f"{classes['macro_f1']:.2f} ({low:.2f} to {high:.2f})",
            f"{classes['ece']:.3f}",
            f"{polarity['affectline']['macro_f1']:.2f}",
            f"{cost['text_ms']:.1f} ms, with redaction and cues {cost['stage_ms']:.1f} ms",
            f"{cost['disk_mb']:.0f} MB",
        ],
        ["VADER", "", "", f"{polarity['VADER']['macro_f1']:.2f}", f"{cost['vader_ms']:.1f} ms", ""],
    ]
    heads = [
        "words",
        f"macro F1 of {classes['classes']} classes (95 % interval)",
        "calibration error",
        "macro F1 of polarity",
        "20 words, one thread",
        "on disk",
    ]
    data = document["data"]
    return f"{_table(heads, body)}\n\n{data['name']}: {classes['n']} texts. {_source(document)}"


def redaction(document: Document) -> str:
    """Recall and precision, and recall of every kind."""
    kinds = list(document["results"]["affectline"]["recall_by_kind"])
    body = []
    for name, result in document["results"].items():
        shares = [
            f"{r['value']:.2f} ({r['95'][0]:.2f} to {r['95'][1]:.2f})" for r in (result["recall"], result["precision"])
        ]
        by_kind = [f"{right}/{total}" for right, total in (result["recall_by_kind"][kind] for kind in kinds)]
        body.append([name, *shares, *by_kind, f"{result['ms_per_turn']:.1f} ms"])
    heads = ["redaction", "recall", "precision", *(kind.replace("_", " ") for kind in kinds), "per turn"]
    first = document["results"]["affectline"]
    what = f"{document['list']}: {first['turns']} turns, {first['values']} values."
    return f"{_table(heads, body)}\n\n{what} {_source(document)}"


def face(document: Document, live: Document) -> str:
    """Every expression network and its peers' on the same faces, the whole path beside theirs, and a live stream."""
    ours, others = document["expression"], document["peers"]
    body = [_expression(name, result) for name, result in ours.items()]
    for name, peer in others.items():
        body.append(
            _expression(name if peer["weights"] else f"{name} (speed only: no weights here)", peer["expression"])
        )
    heads = ["expression", "accuracy (95 % interval)", "recall per class", "calibration error", "per face"]
    best, path = document["best"], document["path"]
    ratios = [
        f"{name} {peer['expression']['ms_per_face'] / ours[best]['ms_per_face']:.1f}" for name, peer in others.items()
    ]
    slower = f" Times as long as {best}: {', '.join(ratios)}." if ratios else ""
    whole = (
        f"The whole path takes {path['whole_ms']:.0f} ms a picture"
        + "".join(f", {name}'s {peer['whole_ms']:.0f} ms" for name, peer in others.items())
        + f"; detection at 640×480 {path['detect_640x480_ms']:.0f} ms; face and absence come right on "
        f"{path['switching_right']} of {path['clips']} clips. All on one thread."
    )
    cost = live["stream"]
    stream = (
        f"A live H.264 stream of 640×480 and 15 frames a second takes {cost['decode_ms']:.1f} ms of the processor to "
        f"decode a frame, and {cost['ms_per_second']:.0f} ms per second of the call with {cost['looked_at_per_s']:.0f} "
        f"pictures of it judged (`{live['environment']['command']}`)."
    )
    faces = f"{document['data']['name']}: {ours[best]['n']} validation faces, for speed one at a time."
    return f"{_table(heads, body)}\n\n{faces}{slower} {whole} {_source(document)} {stream}"


def _expression(name: str, result: dict[str, Any]) -> list[str]:
    """One network's row; empty where only its speed is known."""
    took = f"{result['ms_per_face']:.2f} ms"
    if "accuracy" not in result:
        return [name, "", "", "", took]
    low, high = result["accuracy_95"]
    accuracy = f"{result['accuracy']:.3f} ({low:.2f} to {high:.2f})"
    return [name, accuracy, f"{result['uar']:.2f}", f"{result['ece']:.3f}", took]


def timeline(*documents: Document) -> str:
    """Every corpus: the fused timeline live and after the call, beside the best single modality; and alerts."""
    body = []
    for document in documents:
        live, after, alerts, labels = (document[key] for key in ("live", "after", "alerts", "alerts_by_label"))
        best = max((document[name]["after"]["macro_f1"], name) for name in ("voice", "words", "stress"))
        body.append(
            [
                document["data"]["name"]
                + (", site baseline" if document["data"]["site_baseline"] else "")
                + (", provisional moments" if document["data"].get("interim") else ""),
                f"{live['macro_f1']:.2f}, {live['auc']:.2f}",
                f"{after['macro_f1']:.2f}, {after['auc']:.2f}",
                f"{best[0]:.2f} ({best[1]})",
                f"{after['ece']:.2f}",
                f"{document['live_is_after']:.0%}",
                f"{alerts['found']:.0%}, {alerts['found_in_time']:.0%}",
                f"{alerts['delay_s'][0]:.1f} s" if alerts["delay_s"] else "",
                f"{labels['found']:.0%}, {labels['found_in_time']:.0%}",
                f"{alerts['false_per_hour'] * alerts['hours_without']:.0f} in {60 * alerts['hours_without']:.0f} min",
            ]
        )
    heads = [
        "per second: macro F1, area under the curve",
        "live",
        "after the call",
        "best modality alone",
        "calibration error",
        "live as after",
        "anger found by the voice, within 5 s",
        "median delay",
        "by the fused label",
        "alerts of the voice in neutral and other feelings",
    ]
    minutes = sum(document["data"]["minutes"] for document in documents)
    return f"{_table(heads, body)}\n\n{minutes:.0f} minutes of constructed calls. {_source(documents[0])}"


def load(document: Document) -> str:
    """Lateness, cost and quality of live calls, a column per run."""
    runs = sorted(document["runs"], key=lambda run: int(run["calls"]))
    heads = ["live calls at the same time", *(str(run["calls"]) for run in runs)]
    names = {
        "moment": "final moment after it is due, p50 / p95 / p99",
        "moment, first": "first moment after its second",
        "transcript": "final transcript after it is due",
        "transcript, after speech": "final transcript after the end of speech",
        "partial": "partial transcript after its last sound",
        "suggestion": "suggestion after its evidence is due",
    }

    def row(what: str, show: Callable[[Document], str]) -> list[str]:
        return [what, *(show(run) for run in runs)]

    def late(name: str) -> Callable[[Document], str]:
        def show(run: Document) -> str:
            found = run["latency"].get(name)
            return f"{found['p50_s']:.2f} / {found['p95_s']:.2f} / {found['p99_s']:.2f} s" if found else ""

        return show

    body = [
        *(row(what, late(name)) for name, what in names.items()),
        row("objective held", lambda run: "yes" if run["holds"] else "no"),
        row("calls refused", lambda run: str(run["refused"])),
        row(
            "partial transcripts sent, of those due",
            lambda run: _share(run["partials"]["sent"], run["partials"]["due"]),
        ),
    ]
    if all("server" in run for run in runs):
        body += [
            row("cores busy: server", lambda run: f"{run['server']['cores_busy']:.2f}"),
            row("cores busy: other programs", lambda run: f"{run['server']['others_cores_busy']:.2f}"),
            row("processor per second of call", lambda run: f"{run['server']['cpu_s_per_call_second']:.3f} s"),
            row("memory in all", lambda run: f"{run['server']['rss_mb']:.0f} MB"),
        ]
    if all("quality" in run for run in runs):
        body.append(
            row(
                "as without load: words, labels",
                lambda run: (
                    _share(1 - (run["quality"]["transcript_wer_against_unloaded"] or 0), 1)
                    + ", "
                    + _share(run["quality"]["labels_as_unloaded"] or 0, 1)
                ),
            )
        )
    data = document["data"]
    speech = runs[0]["speech"]["spoken_seconds_per_minute"]
    return (
        f"{_table(heads, body)}\n\n{data['name']}: {', '.join(data['recordings'])}, {speech:.0f} s of speech a minute, "
        f"interim results {'on' if runs[0]['interim_results'] else 'off'}. {_source(document)}"
    )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else ""


def scale(document: Document) -> str:
    """Cost of a call by number and by length, and whether it is flat."""
    rows = [(f"{row['calls']} calls", row) for row in document["by_number"]]
    rows += [(f"1 call of {row['minutes']:.1f} min", row) for row in document["by_length"]]
    body = [
        [
            what,
            f"{row['cpu_s_per_call_minute']:.2f} s",
            f"{row['rss_peak_mb']:.0f} MB",
        ]
        for what, row in rows
    ]
    heads = ["", "processor per minute of call", "memory at its highest"]
    told = [
        f"by {name} within {document[f'spread_by_{name}']:.0%} of the mean"
        for name in ("number", "length")
        if f"spread_by_{name}" in document
    ]
    memory = [
        f"{document[key]:.1f} MB for each {what} more"
        for key, what in (("rss_mb_per_call", "call"), ("rss_mb_per_hour_of_call", "hour of a call"))
        if key in document
    ]
    cost = f"Cost {', '.join(told)}. Memory: {', '.join(memory)}."
    return f"{_table(heads, body)}\n\n{cost} {_source(document)}"


def soak(document: Document) -> str:
    """What the server holds, and how it grows."""
    body = [
        [
            name,
            f"{document['idle_before'][key]:.0f}",
            f"{document[key]['most']:.0f}",
            f"{document['idle_after'][key]:.0f}",
            f"{document[key]['per_hour']:.1f} ({document[key]['per_hour_95'][0]:.1f} to "
            f"{document[key]['per_hour_95'][1]:.1f})",
        ]
        for key, name in (("rss_mb", "memory, MB"), ("handles", "open files and sockets"), ("threads", "threads"))
    ]
    heads = ["", "before", "most", "after", "growth an hour (95 % interval)"]
    return (
        f"{_table(heads, body)}\n\n{document['calls']} calls in {document['minutes']:.0f} minutes, about "
        f"{document['calls_at_a_time']} at a time. {_source(document)}"
    )


def peers(document: Document) -> str:
    """Whole recordings: speed beside quality, ours and the wired stacks."""
    rows = document["results"]
    ours = rows[0]["call_cpu_rtf"]
    body = [
        [
            row["system"],
            f"{row['call_cpu_rtf']:.3f}",
            f"{row['call_cpu_rtf'] / ours:.1f}×",
            f"{row['call_rtf']:.3f}",
            f"{row['wer']:.1%}",
            f"{row['polarity_recall']:.2f} ({row['polarity_recall_95'][0]:.2f} to {row['polarity_recall_95'][1]:.2f})",
            f"{row['peak_mb']} MB",
        ]
        for row in rows
    ]
    heads = [
        "whole recordings",
        "processor per second of call",
        "against ours",
        "by the clock",
        "word error rate",
        "recall of negative, neutral, positive",
        "peak memory",
    ]
    data = document["data"]
    return (
        f"{_table(heads, body)}\n\nSpeed: {data['call']}, {data['parties']} parties, {document['threads']} threads. "
        f"Quality: {data['name']}, {data['clips']} clips of {data['speakers']} speakers. {_source(document)}"
    )


def store(document: Document) -> str:
    """How long the store takes to answer."""
    body = [
        [each["question"], str(each["answer"]), *(f"{each[name]:.0f} ms" for name in ("cpu_ms", "median_ms"))]
        for each in document["results"]
    ]
    return (
        f"{_table(['question', 'rows or calls', 'CPU time', 'by the clock'], body)}\n\n{document['database']}, "
        f"{document['calls']:,} calls with {document['moments']:,} moments and {document['utterances']:,} utterances, "
        f"{document['size_mb']:,} MB. Lists give a page of 50 and count up to 10,001. {_source(document)}"
    )


def onset(document: Document) -> str:
    """Alerts of a voice that turns angry where nobody is."""
    body = [
        [name, f"{60 * found['hours_of_speech']:.0f} min", str(found["alerts"])]
        for name, found in document["data"].items()
    ]
    return f"{_table(['speech without anger', 'length', 'alerts'], body)}\n\n{_source(document)}"


def diarization(document: Document) -> str:
    """Error rates of every set, and how many voices were found."""
    live = all("der_live" in row for row in document["sets"])
    body = [
        [
            row["set"],
            f"{row['conversations']}, {row['audio_s'] / 60:.0f} min",
            f"{row['der']:.1%}",
            f"{row['missed']:.1%}, {row['false_alarm']:.1%}, {row['confusion']:.1%}",
            f"{row['der_collar']:.1%}",
            f"{row['der_known_count']:.1%}",
            *([f"{row['der_live']:.1%}"] if live else []),
            ", ".join(f"{count} ({times}×)" for count, times in row["counted"].items()),
        ]
        for row in document["sets"]
    ]
    heads = [
        "set, voices",
        "conversations",
        "error rate",
        "missed, false alarm, wrong voice",
        "with a collar of 0.25 s",
        "number of voices given",
        *(["live"] if live else []),
        "voices found",
    ]
    return (
        f"{_table(heads, body)}\n\nOverlap is scored. Gate, embeddings and clusters took {document['cpu_share']:.1%} "
        f"of the sound's length in processor time, one thread. {_source(document)}"
    )


def roles(document: Document) -> str:
    """Which voice is whose: right, unknown, wrong."""

    def cell(found: dict[str, int]) -> str:
        return f"{found.get('right', 0)}, {found.get('unknown', 0)}, {found.get('wrong', 0)}"

    found = document["roles"]
    body = [["sides of the recorded calls, from sound", cell(found["sound"])]]
    for part, title in (("test", "invented dialogues, test half"), ("dev", "invented dialogues, other half")):
        for turns, verdicts in found["dialogues"][part].items():
            body.append([f"{title}, {'all turns' if turns == 'all' else f'{turns} turns'}", cell(verdicts)])
    return f"{_table(['parties', 'right, unknown, wrong'], body)}\n\n{_source(document)}"


TIMELINES = ("timeline_ravdess_speech", "timeline_nemo_pl", "timeline_emodb")

TABLES: dict[str, tuple[tuple[str, ...], Callable[..., str]]] = {
    "transcript": (("transcript",), transcript),
    "speed": (("speed",), speed),
    "stages": (("speed",), stages),
    "facts": (("facts",), facts),
    "call-stages": (("stages",), call_stages),
    "voice": (("voice_emodb", "voice_ravdess_speech", "voice_nemo_pl"), voice),
    "text": (("text",), text),
    "redaction": (("redaction",), redaction),
    "timeline": (TIMELINES, timeline),
    "onset": (("onset",), onset),
    "face": (("face", "face_stream"), face),
    "store": (("store",), store),
    "load": (("load",), load),
    "load-interim": (("load_interim",), load),
    "scale": (("scale",), scale),
    "scale-length": (("scale_length",), scale),
    "soak": (("soak",), soak),
    "peers": (("peers",), peers),
    "gate": (("gate",), gate),
    "diarization": (("diarization",), diarization),
    "roles": (("diarization",), roles),
}
"""Marker -> (each results/NAME.json, how they are shown)."""


def filled(text: str, results: Path = RESULTS) -> str:
    """The text with every marked table made anew. Raises ValueError for a marker that is unknown or not closed."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"expected a marker of {', '.join(TABLES)}; found {name!r}")
        sources, show = TABLES[name]
        table = show(*(json.loads((results / f"{source}.json").read_text()) for source in sources))
        return f"<!-- bench:{name} -->\n{table}\n<!-- /bench:{name} -->"

    done = re.sub(r"<!-- bench:([\w-]+) -->.*?<!-- /bench:\1 -->", replace, text, flags=re.DOTALL)
    if done.count("<!-- bench:") != done.count("<!-- /bench:"):
        raise ValueError("expected every `<!-- bench:NAME -->` to be closed by `<!-- /bench:NAME -->`")
    return done


def _table(heads: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _source(document: Document) -> str:
    machine = document["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"`{machine['command']}` on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB; "
        f"Python {machine['python']}, {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the tables of the results into README.md and docs/*.md.")
    parser.add_argument("--check", action="store_true", help="only tell whether they are up to date")
    check = parser.parse_args().check
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text()
        try:
            done = filled(text)
        except ValueError as error:
            sys.exit(f"{path.name}: {error}")
        if check and done != text:
            sys.exit(f"{path.name} is out of date: run `python -m benchmarks.tables`")
        if not check:
            path.write_text(done)


if __name__ == "__main__":
    main()
