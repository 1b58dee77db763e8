"""What the documents show works as shown."""

import re
from pathlib import Path
from typing import get_args

import pytest

from affectline.pipelines.cues import load_cues
from affectline.pipelines.measures import Measure
from affectline.pipelines.policy import load_policies
from affectline.pipelines.policy_cases import load_cases, run_case
from affectline.pipelines.routing import RoutingContext, load_routing, recommend
from affectline.server.recommend_cli import read_request

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[1]
POLICIES = (ROOT / "docs/policies.md").read_text()
ROUTING = (ROOT / "docs/routing.md").read_text()
BLOCK = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| `(\{measure: .*?\})` \| .* \| (.*) \|$", re.MULTILINE)
KINDS = {get_args(kind.model_fields["measure"].annotation)[0]: kind for kind in get_args(get_args(Measure)[0])}


def test_the_pack_loads_and_its_case_passes(tmp_path: Path) -> None:
    pack_text, cases_text = BLOCK.findall(POLICIES)
    pack = load_policies(pack_text)
    (tmp_path / "cases.yaml").write_text(cases_text)
    (case,) = load_cases(tmp_path / "cases.yaml", pack)
    assert run_case(pack, case, load_cues()).faults == ()


@pytest.mark.parametrize("name", KINDS)
def test_every_measure_is_shown_with_all_its_fields_and_variables(name: str) -> None:
    rows = {measure: (example, variables) for measure, example, variables in ROW.findall(POLICIES)}
    assert set(rows) == set(KINDS)
    example, variables = rows[name]
    pack_text = BLOCK.findall(POLICIES)[0]
    wanted = "- {measure: label, any_of: [confused], for_s: 4}"
    assert wanted in pack_text
    text = pack_text.replace(wanted, f"- {example}").replace("sounds confused for {label_s} s", "x")
    measure = load_policies(text).policies[0].when.all[0]
    assert measure.measure == name
    assert {f"`{variable}`" for variable in measure.variables} == set(variables.split(", "))
    row = next(line for line in POLICIES.splitlines() if line.startswith(f"| `{name}` |"))
    assert all(field in row for field in KINDS[name].model_fields if field != "within_s")


def test_the_routing_file_loads_and_leads_somewhere() -> None:
    (text,) = BLOCK.findall(ROUTING)
    found = recommend(load_routing(text), RoutingContext(intent="cancel", product="fibre 500", choice="3"))
    assert (found.queue, found.skills) == ("retention", ("retention", "de-escalation"))


def test_the_example_request_can_be_read() -> None:
    request = read_request(ROOT / "examples/recommend.yaml")
    assert request.heard
    assert request.history
