"use strict";
// Parts of the page that take longer come when they are ready.

for (const part of document.querySelectorAll("[data-part]")) {
  fetch(part.dataset.part).then(async (answer) => {
    if (!answer.ok) throw new Error();
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    part.replaceChildren(...found.body.childNodes);
    part.dataset.ready = "true";
  }).catch(() => { part.querySelector("[role=status]").textContent = "This part could not be read. Load the page again."; });
}
document.documentElement.dataset.ready = "true";
