"use strict";
// What all pages share: keys of tables, menus that close, searches that are kept in this browser.

(() => {
  const rows = () => [...document.querySelectorAll("table.rows tbody tr[data-href]")];
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const all = rows(), at = all.findIndex((row) => row.contains(document.activeElement));
    if (event.key === "Enter" && at >= 0 && document.activeElement === all[at]) location.assign(all[at].dataset.href);
    if (event.key === "/" && document.querySelector("input[type=search]")) {
      event.preventDefault();
      document.querySelector("input[type=search]").focus();
    }
    const step = { j: 1, k: -1 }[event.key];
    if (!step || !all.length) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + step))].focus();
  });
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!event.composedPath().includes(menu)) menu.open = false;
    const row = event.target.closest?.("table.rows tr[data-href]");
    if (row && !event.target.closest("a, button, summary") && !String(getSelection())) location.assign(row.dataset.href);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  });
  for (const form of document.querySelectorAll("form[data-sends-on-change]"))
    form.addEventListener("change", () => form.requestSubmit());
  // Empty fields stay out of the address, so that it can be read and shared.
  for (const form of document.querySelectorAll("form[method=get]"))
    form.addEventListener("submit", () => { for (const field of form.elements) if (field.name && !field.value) field.disabled = true; });
  addEventListener("pageshow", () => { for (const field of document.querySelectorAll("form[method=get] :disabled")) field.disabled = false; });
})();
