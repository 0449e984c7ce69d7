// The book in JupyterLab. jupyterlab-myst renders a chapter; this adds what only the whole book
// knows: the numbers of equations, theorems and figures, the names behind citations, the other
// chapters. It changes what is shown, never a notebook. names.json is written by tools/names.py.
{
  const here = document.currentScript.src;
  let shared; // the modules that JupyterLab lends to extensions

  const borrow = async name => {
    const versions = Object.values(shared[name]);
    return (await versions[0].get())();
  };

  // A name takes the place of a text inside its element: React, which owns the elements, never notices.
  const rename = (element, name) => {
    const texts = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE);
    const old = texts.map(text => text.data).join("");
    if (!name || old === name) return;
    texts.forEach((text, i) => (text.data = i ? "" : name));
  };

  const fileOf = (page, names) => [page, `${page}.ipynb`, `${page}.md`].find(name => name in names.documents);

  const label = words => words.trim().replaceAll(":", "-");

  const resolve = (root, names) => {
    for (const lost of root.querySelectorAll('[title$="Not Found"]')) {
      const name = names.labels[label(lost.textContent)] ?? names.citations[lost.textContent.trim()];
      if (!name) continue;
      const bracketed = lost.closest(".cite-group.parenthetical");
      rename(lost, bracketed ? name.replace(" [", ", ").replace("]", "") : name);
      lost.classList.add("vl-name");
      lost.removeAttribute("title");
    }
    for (const link of root.querySelectorAll('a[href^="#"]')) {
      rename(link, link.title === "Link to this Proof" ? "Proof" : names.labels[link.hash.slice(1)]);
    }
    for (const link of root.querySelectorAll(".myst a")) rename(link, names.documents[fileOf(link.textContent, names)]);
    for (const title of root.querySelectorAll(".myst-proof-title > span")) {
      if (/^Proof \d+$/.test(title.textContent)) rename(title, "Proof"); // the book numbers none
    }
  };

  // Under what a cell shows: the number by which the text calls it, and its caption.
  const captioned = (cell, names) => {
    const figure = cell.model.getMetadata("mystnb")?.figure;
    if (!figure) return;
    const text = figure.caption.replace(/\{eq\}`([^`]+)`/g, (_, name) => names.labels[label(name)]);
    const number = Object.assign(document.createElement("b"), { textContent: names.labels[label(figure.name)] });
    const caption = Object.assign(document.createElement("div"), { className: "vl-caption" });
    caption.append(number, ` ${text}`);
    cell.node.append(caption);
  };

  const STYLE = `
.jp-MarkdownCell .vl-name { color: inherit; }
.jp-MarkdownCell .vl-name > svg { display: none; }
.vl-caption { margin: 0 1em 1em calc(var(--jp-cell-prompt-width) + 1em); color: var(--jp-content-font-color1); }`;

  const activate = async (app, tracker) => {
    const names = await (await fetch(new URL("names.json", here))).json();
    document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
    app.restored.then(() => app.shell.activateById("table-of-contents"));

    tracker.widgetAdded.connect((_, panel) => {
      const book = names.documents[panel.context.path.split("/").pop()] !== undefined;
      const watch = new MutationObserver(() => book && resolve(panel.node, names));
      watch.observe(panel.node, { childList: true, subtree: true });

      panel.context.ready.then(() => {
        for (const cell of panel.content.widgets) {
          if (cell.model.getMetadata("tags")?.includes("hide-input")) cell.inputHidden = true;
          // Of a cell whose code and output are both folded JupyterLab shows no way to the output.
          if (cell.outputHidden) cell.node.querySelector(".jp-Cell-outputWrapper").classList.remove("lm-mod-hidden");
          if (book) captioned(cell, names);
        }
      });

      // Another page of the book opens beside this one; a word of the glossary opens the glossary.
      panel.node.addEventListener("click", event => {
        const link = event.target.closest?.(".jp-MarkdownCell a");
        if (!link || !book) return;
        const word = link.getAttribute("href") === "#";
        const page = word ? "glossary" : decodeURIComponent(link.pathname.split("/").pop());
        const file = fileOf(page, names);
        if (!file) return;
        event.preventDefault();
        const folder = panel.context.path.split("/").slice(0, -1).join("/");
        const factory = file.endsWith(".md") ? "Markdown Preview" : undefined;
        app.commands.execute("docmanager:open", { path: `${folder}/${file}`, factory });
      }, true);
    });
  };

  const load = async () => {
    const { INotebookTracker } = await borrow("@jupyterlab/notebook");
    return { id: "vaelearn:book", autoStart: true, requires: [INotebookTracker], activate };
  };

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.vaelearn = {
    init: scope => { shared = scope; },
    get: async () => { const plugin = await load(); return () => plugin; },
  };
}
