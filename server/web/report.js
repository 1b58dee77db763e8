"use strict";
// The report: a call that travels inside of the page.

/** The timeline travels as base64 of gzipped JSON. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

unpack($("call").textContent).then((call) => callView(call)).then(
  () => { document.documentElement.dataset.ready = "true"; },
  (error) => {
    $("notices").append(el("li", { textContent: `This report could not be shown (${error}). Open it in a browser from 2023 or later.` }));
    throw error;
  });
