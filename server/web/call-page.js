"use strict";
// The page of a stored call: fetches it, lets people correct labels, and says when something is not there.

function callPage() {
  const { address, mayCorrect, labels } = $("call-data").dataset;
  const get = (what) => fetch(`${address}/${what}`, { headers: { accept: "application/json" } }).then(async (answer) => {
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error ?? `the server answered ${answer.status}`);
    return answer.json();
  });

  /** Two clicks: what is wrong, and what it was. The model's own label stays beside it. */
  function correction(moment, corrections) {
    const box = el("div", { className: "correct" });
    const said = corrections[moment.id];
    const start = el("button", { textContent: said ? "Change" : "Correct this label", onclick: () => {
      $("audio")?.pause(); // the panel goes along with the sound
      const choices = el("div", { className: "choices", role: "group", "aria-label": "What it was" }, ...labels.split(" ").map((label) => {
        const node = el("button", { textContent: label, className: `chip ${label}`, onclick: () => send(label) });
        const fill = look.colours[label];
        if (fill) Object.assign(node.style, { background: fill, color: inkOn(fill) });
        return node;
      }));
      box.append(choices);
      start.disabled = true;
      choices.firstElementChild.focus();
    } });
    const told = el("p", { role: "status" });
    async function send(label) {
      const body = new URLSearchParams({ moment: moment.id, label, form_token: document.querySelector("meta[name=form-token]").content });
      const answer = await fetch(`${address}/labels`, { method: "POST", body, headers: { accept: "application/json" } }).catch(() => null);
      if (!answer?.ok) {
        told.textContent = (await answer?.json().catch(() => null))?.error ?? "It could not be kept: the server did not answer. Try again.";
        return;
      }
      corrections[moment.id] = label;
      box.replaceWith(correction(moment, corrections));
    }
    if (said) box.append(el("p", {}, "Corrected by a person to ", chip(said), ". The models' own label stays above."));
    box.append(start, told);
    return box;
  }

  Promise.all([get("timeline.json"), get("people.json")]).then(([call, people]) => {
    callView(call, { feedback: people.feedback, silent: "The sound of this call is not kept here.",
      extras: (moment) => (mayCorrect && isKnown(moment) ? [correction(moment, people.corrections)] : []) });
    document.documentElement.dataset.ready = "true";
  }).catch((error) => {
    $("facts").textContent = "";
    $("notices").append(el("li", { textContent: `The call could not be shown: ${error.message.replace(/\.$/, "")}. Load the page again; if it stays so, its export as JSON may still work.` }));
    throw error;
  });
}
callPage();
