// Search in all tokens, contexts and names. Texts are folded once, when the contexts have arrived.

let folded = null;
let found = nothingAsked();

function nothingAsked() {
  return { asked: false, factors: null, texts: null };
}

/** Return text in which case and ways to write the same character make no difference. */
function fold(text) {
  return text.normalize("NFC").toLowerCase();
}

function foldTexts(contexts) {
  const tokens = [];
  const whole = [];
  for (let place = 0; place < contexts.texts.length; place += 3) {
    tokens.push(fold(contexts.texts[place + 1]));
    whole.push(fold(contexts.texts[place] + contexts.texts[place + 1] + contexts.texts[place + 2]));
  }
  folded = { tokens, contexts: whole, ...foldedEntries(contexts) };
}

/** Which factor each entry of the contexts is of. */
function foldedEntries(contexts) {
  const factorOfEntry = new Uint32Array(contexts.text.length);
  contexts.counts.forEach((count, group) => {
    const factor = Math.floor(group / factors.layers.length);
    factorOfEntry.fill(factor, contexts.starts[group], contexts.starts[group] + count);
  });
  return { factorOfEntry, textOfEntry: contexts.text };
}

/** Find what a query is in: how many contexts of each factor, and which texts. */
function find(query, scope) {
  const wanted = fold(query.trim());
  if (wanted === "") return nothingAsked();
  const matches = new Uint32Array(factors.n_factors);
  const texts = scope === "names" || folded === null ? null : textsWith(wanted, scope);
  if (texts) {
    folded.textOfEntry.forEach((text, entry) => {
      matches[folded.factorOfEntry[entry]] += texts[text];
    });
  }
  if (scope === "all" || scope === "names") matchNames(wanted, matches);
  if (scope === "all") matchFacts(wanted, matches);
  return { asked: true, factors: matches, texts };
}

function textsWith(wanted, scope) {
  const searched = scope === "tokens" ? folded.tokens : folded.contexts;
  return Uint8Array.from(searched, (text) => (text.includes(wanted) ? 1 : 0));
}

function matchNames(wanted, matches) {
  for (const [factor, name] of Object.entries(names)) {
    if (fold(name).includes(wanted)) matches[factor] += 1;
  }
}

/** A factor is also found by its number, and by its top tokens before the contexts have arrived. */
function matchFacts(wanted, matches) {
  const number = knownFactor(wanted.replace(/^#/, ""));
  if (number !== null) matches[number] += 1;
  if (folded !== null) return;
  factors.top_tokens.forEach((tokens, factor) => {
    if (fold(tokens).includes(wanted)) matches[factor] += 1;
  });
}
