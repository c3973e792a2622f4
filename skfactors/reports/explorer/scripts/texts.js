// The texts that the page was made with: their factors, in all and token by token.

const STRONGEST_SHOWN = 8;
const TOKENS_NAMED = 2;

function drawExamples(examples) {
  byId("examples").hidden = examples.length === 0;
  for (const { title, columns, rows } of examples) {
    const isExplained = rows.length > 0 && typeof rows[0][1] === "object";
    byId("examples").append(
      isExplained ? explainedText(columns, rows) : element("p", { dir: "auto" }, title),
      ...(columns.length === 0 ? [] : isExplained ? [] : [exampleTable(columns, rows)]),
    );
  }
}

/** Draw a text as tokens to press; below them the strongest factors of the pressed one, or of the text. */
function explainedText(columns, rows) {
  const answer = element("p", { class: "answer", dir: "auto", role: "status" });
  const tokens = rows.map(([token, ...cells]) => {
    const button = element("button", { type: "button", class: "token", "aria-pressed": "false" }, shortened(token));
    button.addEventListener("click", () => {
      const isPressed = button.getAttribute("aria-pressed") === "true";
      for (const other of tokens) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(!isPressed));
      answer.replaceChildren(...(isPressed ? strongestOf(rows.flatMap((row) => row.slice(1)), "the text") : strongestOf(cells, "this token")));
    });
    return button;
  });
  answer.replaceChildren(...strongestOf(rows.flatMap((row) => row.slice(1)), "the text"));
  const table = element("details", {}, element("summary", {}, "Token by token, layer by layer"), exampleTable(columns, rows));
  return element("div", { class: "explained" }, element("p", { class: "text", dir: "auto" }, ...tokens), answer, table);
}

/** Return links to the factors that are strongest in some cells, whatever their sign, each once. */
function strongestOf(cells, what) {
  const strongest = new Map();
  for (const { factors: held } of cells) {
    for (const [factor, activation] of held) {
      if (Math.abs(activation) > Math.abs(strongest.get(factor) ?? 0)) strongest.set(factor, Number(activation));
    }
  }
  const first = [...strongest].sort(([, one], [, other]) => Math.abs(other) - Math.abs(one)).slice(0, STRONGEST_SHOWN);
  const links = first.map(([factor, activation]) => {
    const label = `${factor} ${shortened(labelOf(factor).split(", ").slice(0, TOKENS_NAMED).join(", "))}`;
    return element("a", { href: fragment(factor), class: "tab" }, label, element("small", {}, ` ${activation.toPrecision(3)}`));
  });
  return [`Strongest in ${what}: `, ...links.flatMap((link) => [link, " "])];
}

/** Return what a cell shows: a text, or the factors of a hidden state, with links to them, and what they leave. */
function cellParts(cell) {
  if (typeof cell === "string") return [shortened(cell)];
  const lines = cell.factors.map(([factor, activation, token]) => {
    const label = names[factor] || token;
    return element("div", {}, element("a", { href: fragment(factor) }, String(factor)), ` ${activation} `, element("i", {}, shortened(label)));
  });
  return [...lines, element("small", {}, cell.left)];
}

function exampleTable(columns, rows) {
  const line = (tag, cells) => element("tr", {}, ...cells.map((cell) => element(tag, { dir: "auto" }, ...cellParts(cell))));
  const table = element(
    "table",
    {},
    element("thead", {}, line("th", columns)),
    element("tbody", {}, ...rows.map((row) => line("td", row))),
  );
  return element("div", { class: "scrolled", tabindex: 0, role: "group", "aria-label": "Table" }, table);
}
