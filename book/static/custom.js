if (location.protocol === "file:") {
  // Search shows a passage of each page it finds, which it must fetch. A page opened
  // from a file may not fetch its neighbours, so there the titles alone are listed.
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
} else {
  // The button that offers a chapter as a notebook saves it, and opens no empty tab. Its first cell
  // is told where this book is, so that it can fetch the library from here.
  addEventListener("DOMContentLoaded", () => {
    for (const link of document.querySelectorAll('a.btn-download-source-button, a.download[href$=".ipynb"]')) {
      link.removeAttribute("target");
      link.download = link.href.split("/").pop();
      link.addEventListener("click", async event => {
        if (!link.href.endsWith(".ipynb") || link.href.startsWith("blob:")) return;
        event.preventDefault();
        const text = await (await fetch(link.href)).text();
        const book = new URL(".", location.href).href.slice(0, -1);
        const filled = new Blob([text.replace('BOOK = \\"\\"', `BOOK = \\"${book}\\"`)]);
        const saved = Object.assign(document.createElement("a"), { download: link.download });
        saved.href = URL.createObjectURL(filled);
        saved.click();
        URL.revokeObjectURL(saved.href);
      });
    }
  });
}

// A browser may break a line between a formula and the comma after it. Keep the two together.
addEventListener("DOMContentLoaded", () => {
  for (const formula of document.querySelectorAll("span.math")) {
    const after = formula.nextSibling, before = formula.previousSibling;
    const closing = after?.nodeType === Node.TEXT_NODE && after.data.match(/^[^\s\w(]+/)?.[0];
    const opening = before?.nodeType === Node.TEXT_NODE && before.data.match(/[(“‘]+$/)?.[0];
    if (!closing && !opening) continue;
    const together = document.createElement("span");
    together.className = "vl-together";
    formula.replaceWith(together);
    if (opening) before.data = before.data.slice(0, -opening.length);
    if (closing) after.data = after.data.slice(closing.length);
    together.append(opening || "", formula, closing || "");
  }
});

// The button of a folded box says which box it opens, to those who hear it.
addEventListener("load", () => {
  for (const button of document.querySelectorAll(".admonition-title > button.toggle-button")) {
    button.setAttribute("aria-label", `Show or hide: ${button.parentElement.textContent.trim()}`);
  }
});
