// A guess comes before its answer. What follows a "Predict" box, down to the words that read the answer,
// waits until the reader has a guess, on paper or in the box. This browser keeps it, and it stands beside
// the answer. Paper, a search in the page and a link to what is hidden show all.
addEventListener("DOMContentLoaded", () => {
  const kept = {
    get: key => { try { return localStorage.getItem(key) ?? ""; } catch { return ""; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* then for now only */ } },
  };

  // The siblings after a box that make its answer: to the end of the first run of cells and the prose below it.
  function answerTo(box) {
    const parts = [];
    let cells = false, prose = false;
    for (let e = box.nextElementSibling; e && !e.matches("section, .predict, .exercise"); e = e.nextElementSibling) {
      const cell = e.matches(".cell");
      if (prose && (cell || e.matches(".admonition"))) break;
      cells ||= cell;
      prose ||= cells && !cell;
      parts.push(e);
    }
    return cells ? parts : [];
  }

  document.querySelectorAll(".bd-article .predict.admonition").forEach((box, n) => {
    const parts = answerTo(box);
    if (!parts.length) return;
    const key = `vl-guess ${DOCUMENTATION_OPTIONS.pagename} ${box.textContent.trim().slice(0, 80)}`;
    const answer = Object.assign(document.createElement("div"), { id: `answer-${n + 1}`, className: "vl-answer" });
    const guess = Object.assign(document.createElement("textarea"), { rows: 2, value: kept.get(key) });
    guess.placeholder = "Your guess (it stays in this browser)";
    guess.setAttribute("aria-label", "Your guess");
    const button = Object.assign(document.createElement("button"), { type: "button", className: "vl-show" });
    button.setAttribute("aria-controls", answer.id);
    const beside = Object.assign(document.createElement("p"), { className: "vl-guess" });

    function write() {
      kept.set(key, guess.value);
      beside.textContent = guess.value.trim() && `You guessed: ${guess.value.trim()}`;
    }
    function show(shown) {
      if (shown) answer.removeAttribute("hidden");
      else answer.setAttribute("hidden", "until-found");
      button.setAttribute("aria-expanded", shown);
      button.textContent = shown ? "Hide the answer" : "I wrote it down: show";
    }

    box.after(answer);
    answer.append(...parts);
    (answer.querySelector(".cell_output") ?? answer.firstElementChild).before(beside);
    box.append(guess, button);
    guess.addEventListener("input", write);
    button.addEventListener("click", () => show(button.getAttribute("aria-expanded") === "false"));
    answer.addEventListener("beforematch", () => show(true));
    write();
    show(false);
    const linked = () => location.hash && answer.querySelector(`[id="${CSS.escape(decodeURIComponent(location.hash.slice(1)))}"]`);
    const onLink = () => linked() && (show(true), linked().scrollIntoView());
    addEventListener("hashchange", onLink);
    onLink();
  });
});
