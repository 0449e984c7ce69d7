// Nothing looks complete that is cut. A formula wider than its place is broken into lines at its relations
// and signs, then set smaller, down to what can still be read. What is wider even so scrolls, as wide
// tables, code and figures do, and fades at the edge beyond which there is more.
(() => {
  const SMALLEST = 0.7; // of the size that it would have on a wide page
  const preferred = room => (room < 400 ? 0.85 : 0.95); // on a phone rather smaller than in many lines
  const RELATIONS = /^(=|<|>|\\(le|ge|leq|geq|ne|sim|approx|equiv|propto|to|ll|gg|Rightarrow|Longrightarrow|iff|overset|stackrel|xrightarrow|in))$/;
  const SIGNS = /^([-+]|\\(cdot|times|pm))$/;
  const OPENS = /^([([]|\\\{|\\(langle|lfloor|lceil))$/, CLOSES = /^([)\]]|\\\}|\\(rangle|rfloor|rceil))$/;

  // TeX cut at its rows (level 0), at wide spaces (1), relations (2), signs (3), and then in brackets as well (4).
  function pieces(tex, level) {
    const cut = [""];
    let braces = 0, brackets = 0, operand = false; // is there something that a sign could join?
    for (const [token] of tex.matchAll(/\\(?:left|right)(?![a-zA-Z])\s*(?:\\[a-zA-Z]+|\\?.)|\\begin\{\w+\*?\}|\\end\{\w+\*?\}|\\[a-zA-Z]+|\\.|&+|\s+|[^]/g)) {
      const closing = /^(\}|\\end\{|\\right(?![a-z]))/.test(token);
      if (closing) braces--;
      const outside = braces === 0 && (brackets === 0 || level > 3);
      const row = token === "\\\\" && braces === 0, space = /^\\q?quad$/.test(token);
      const operator = RELATIONS.test(token) || (level > 2 && operand && SIGNS.test(token));
      if (level === 0 ? row : level === 1 ? space && outside : operator && outside && operand) cut.push("");
      if (!row && !(level === 1 && space && outside)) cut[cut.length - 1] += token;
      if (/^(\{|\\begin\{|\\left(?![a-z]))/.test(token)) braces++;
      if (braces === 0 && OPENS.test(token)) brackets++;
      if (braces === 0 && CLOSES.test(token)) brackets--;
      if (token.trim() && !/^\\([,;!: ]|big|Big|bigg|Bigg)/.test(token) && !space) {
        operand = closing || !(RELATIONS.test(token) || SIGNS.test(token) || OPENS.test(token) || /^([{,:&^_]|\\left)/.test(token));
      }
    }
    return cut.filter(piece => piece.trim());
  }

  const typeset = (tex, display) => MathJax.tex2svg(tex, { display });
  const widths = new Map(); // in ex, by TeX
  function width(tex) {
    if (!widths.has(tex)) {
      const set = typeset(`\\displaystyle {}${tex}`, true);
      const wrong = set.querySelector("[data-mml-node=merror]");
      widths.set(tex, wrong ? NaN : parseFloat(set.querySelector("svg").getAttribute("width")));
    }
    return widths.get(tex);
  }

  // Lines no wider than `room` (ex) where that can be had: [TeX, how far in].
  function lines(tex, room, level = 1, indent = 0) {
    if (level > 4 || width(tex) + 2.3 * indent <= room) return [[tex, indent]];
    const parts = pieces(tex, level);
    if (parts.length === 1) return lines(tex, room, level + 1, indent);
    const out = [];
    parts.forEach((part, n) => {
      const last = out.at(-1), inside = n && level > 1 ? 1 : indent;
      const [first, ...more] = lines(part, room, level + 1, inside);
      if (level > 1 && last && width(last[0] + first[0]) + 2.3 * last[1] <= room) last[0] += first[0];
      else out.push(first);
      out.push(...more);
    });
    return out;
  }

  const ENVIRONMENT = /^\s*\\begin\{(split|aligned|gathered)\}([^]*)\\end\{\1\}\s*([.,;]?)\s*$/;
  function broken(tex, room) {
    let bare = tex, match;
    while ((match = bare.match(ENVIRONMENT))) bare = match[2] + match[3];
    const rows = pieces(bare, 0).flatMap((row, n) => {
      const joins = n && /^\s*&?\s*(\{\}\s*)?([-+=]|\\(le|ge)\b)/.test(row);
      const plain = row.replace(/^\s*\[[\d.]+\w\w\]/, "").replace(/&&/g, "\\quad ").replace(/&/g, " ");
      return lines(plain, room, 1, joins ? 1 : 0);
    });
    return `\\begin{aligned} ${rows.map(([row, indent]) => `&${"\\quad ".repeat(indent)}{}${row}`).join(" \\\\ ")} \\end{aligned}`;
  }

  const natural = container => container.querySelector("svg").getBoundingClientRect().width;
  const exes = container => parseFloat(container.querySelector("svg").getAttribute("width"));

  function shrink(container, room) {
    const wide = natural(container);
    if (wide > room) container.style.fontSize = `${100 * Math.max(SMALLEST, Math.floor((100 * room) / wide) / 100)}%`;
  }

  function fitDisplay(math, room) {
    const whole = math.whole;
    if (!whole.isConnected) math.querySelector("mjx-container").replaceWith(whole);
    whole.style.fontSize = "";
    room ??= whole.clientWidth;
    const ex = natural(whole) / exes(whole);
    if (natural(whole) * preferred(room) > room) {
      const set = typeset(broken(math.tex, room / preferred(room) / ex), true);
      if (!set.querySelector("[data-mml-node=merror]") && exes(set) < exes(whole)) whole.replaceWith(set);
    }
    shrink(math.querySelector("mjx-container"), room);
  }

  function fitInline(math, room) {
    const whole = math.whole;
    whole.style.fontSize = "";
    if (math.children.length > 1) math.replaceChildren(whole);
    math.classList.remove("vl-apart");
    if (natural(whole) <= room) return;
    const ex = natural(whole) / exes(whole);
    const parts = pieces(math.tex, 2).flatMap(part => lines(part, room / ex, 3).map(([line]) => line));
    math.classList.add("vl-apart");
    math.replaceChildren(...parts.map(part => typeset(`{}${part}`, false)));
    for (const container of math.children) shrink(container, room);
  }

  const SCROLLS = ".bd-article :is(mjx-container, pre, table, .vl-figure)";
  function edges(box) {
    // A formula's box also holds its words for screen readers, unseen, whose width means nothing.
    const inside = box.matches("mjx-container") ? natural(box) : box.scrollWidth;
    const hidden = inside - box.clientWidth;
    box.classList.toggle("vl-more", hidden > 1 && box.scrollLeft < hidden - 1);
    box.classList.toggle("vl-before", hidden > 1 && box.scrollLeft > 1);
  }

  const blockOf = e => (/^inline|^contents/.test(getComputedStyle(e).display) ? blockOf(e.parentElement) : e);
  const formulas = new Map(); // block -> the formulas in it
  const fitted = new Map(); // block -> the width it had then

  function fit(block) {
    const room = block.clientWidth;
    if (!room || fitted.get(block) === room) return;
    const before = fitted.get(block) ?? Infinity;
    fitted.set(block, room);
    const style = getComputedStyle(block);
    const inner = room - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    for (const math of formulas.get(block)) {
      if (math.matches("div")) fitDisplay(math);
      else if (!math.closest("table") && (natural(math.whole) > inner || before < room)) fitInline(math, inner);
    }
  }

  addEventListener("DOMContentLoaded", async () => {
    await window.MathJax?.startup?.promise;
    for (const item of window.MathJax?.startup?.document?.math ?? []) {
      const math = item.typesetRoot.closest(".bd-article .math");
      if (!math) continue;
      [math.whole, math.tex] = [item.typesetRoot, item.math];
      const block = math.matches("div") ? math : blockOf(math.parentElement);
      formulas.set(block, [...(formulas.get(block) ?? []), math]);
    }
    const all = () => {
      for (const block of formulas.keys()) fit(block);
      document.querySelectorAll(SCROLLS).forEach(edges);
      document.documentElement.dataset.fitted = "";
    };
    const watch = new ResizeObserver(entries => {
      for (const { target } of entries) if (formulas.has(target)) fit(target);
      for (const { target } of entries) if (target.matches(SCROLLS)) edges(target);
    });
    all();
    for (const block of formulas.keys()) watch.observe(block);
    for (const box of document.querySelectorAll(SCROLLS)) watch.observe(box);
    document.addEventListener("scroll", event => event.target.matches?.(SCROLLS) && edges(event.target), { capture: true, passive: true });
    for (const event of ["beforeprint", "afterprint"]) {
      addEventListener(event, () => {
        document.documentElement.classList.toggle("vl-paper", event === "beforeprint");
        all();
      });
    }
  });
})();
