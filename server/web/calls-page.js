"use strict";
// The list of calls: sparklines, and searches that are kept in this browser.

drawSparklines();

function savedSearches() {
  const PLACE = "affectline.searches";
  const read = () => { try { return JSON.parse(localStorage.getItem(PLACE)) ?? []; } catch { return []; } };
  const write = (searches) => { localStorage.setItem(PLACE, JSON.stringify(searches)); show(); };
  function show() {
    const searches = read();
    $("saved-list").replaceChildren(...searches.map(({ name, query }) => el("li", { className: "bar" },
      el("a", { href: `/calls?${new URLSearchParams(query)}`, textContent: name }),
      el("button", { type: "button", textContent: "×", title: "Forget", "aria-label": `Forget ${name}`,
        onclick: () => write(read().filter((other) => other.name !== name)) }))));
    if (!searches.length) $("saved-list").append(el("li", { className: "muted", textContent: "None yet." }));
  }
  const keep = () => {
    const query = new URLSearchParams(location.search), name = $("saved-name").value.trim();
    query.delete("page");
    if (!name) return $("saved-name").focus();
    $("saved-name").value = "";
    write([...read().filter((other) => other.name !== name), { name, query: query.toString() }]);
  };
  $("save-search").onclick = keep;
  $("saved-name").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    keep();
  });
  show();
}
savedSearches();
document.documentElement.dataset.ready = "true";
