// The list of factors: searched, filtered, sorted, and drawn only where it can be seen.

const LEVEL_ORDER = ["low", "mid", "high", "flat"];
const ROW_HEIGHT = 58;
let listed = [];
let clearestRank;
// The rows that are drawn, by factor; and the one that the Tab key leads to, whose row is always drawn.
const rows = new Map();
let cursor = null;

/** Smaller keys come first. A search puts first what it has found best, and of factors found alike the clearest. */
const SORT_KEYS = {
  best: (factor) => clearestRank[factor] + (found.asked ? searchKey(factor) * (factors.n_factors + 1) : 0),
  number: (factor) => factor,
  strength: (factor) => -factors.strength[factor],
  frequency: (factor) => -factors.frequency[factor],
  emergence: (factor) => -(factors.emergence[factor] ?? -1),
  level: (factor) => LEVEL_ORDER.indexOf(levelOf(factor)),
  peak: (factor) => factors.peak_layer[factor] ?? Infinity,
  name: (factor) => (names[factor] ? fold(names[factor]) : "\uffff"),
};

function rankClearest() {
  clearestRank = new Uint32Array(factors.n_factors).fill(factors.n_factors);
  factors.clearest.forEach((factor, rank) => {
    clearestRank[factor] = rank;
  });
}

/** Read the form, and list what it asks for. */
function refreshList() {
  const form = new FormData(byId("filters"));
  found = find(form.get("query"), form.get("scope"));
  listed = sorted(Array.from({ length: factors.n_factors }, (_, factor) => factor).filter(wantedBy(form)), form);
  byId("count").textContent = `${listed.length.toLocaleString("en")} of ${factors.n_factors.toLocaleString("en")} factors`;
  byId("list").scrollTop = 0;
  cursor = listed.includes(view.factor) ? view.factor : (listed[0] ?? null);
  drawList();
}

/** Return the test that the form makes of a factor. */
function wantedBy(form) {
  const level = form.get("level");
  const peak = form.get("peak");
  const isFrequent = between(form.get("least-frequency"), form.get("most-frequency"));
  const isStrong = between(form.get("least-strength"), form.get("most-strength"));
  return (factor) =>
    (level === "" || levelOf(factor) === level) &&
    (peak === "" || String(factors.peak_layer[factor]) === peak) &&
    isFrequent(100 * factors.frequency[factor]) &&
    isStrong(factors.strength[factor]) &&
    (!form.has("named") || Boolean(names[factor])) &&
    (!found.asked || found.ways[factor] < NOT_FOUND);
}

function between(least, most) {
  return (value) => (least === "" || value >= Number(least)) && (most === "" || value <= Number(most));
}

function sorted(chosen, form) {
  const key = SORT_KEYS[form.get("sort")];
  const keys = new Map(chosen.map((factor) => [factor, key(factor)]));
  const direction = form.has("reversed") ? -1 : 1;
  return chosen.sort((one, other) => direction * (compare(keys.get(one), keys.get(other)) || one - other));
}

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

/** Draw the rows that can be seen, some beyond either end, and the cursor's. Rows that stay keep the focus. */
function drawList() {
  const box = byId("list");
  const list = box.firstElementChild;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW_HEIGHT) - 5);
  const last = Math.min(listed.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW_HEIGHT) + 5);
  const places = Array.from({ length: Math.max(0, last - first) }, (_, place) => first + place);
  const ofCursor = listed.indexOf(cursor);
  if (ofCursor >= 0 && ofCursor < first) places.unshift(ofCursor);
  if (ofCursor >= last) places.push(ofCursor);
  const wanted = new Set(places.map((place) => listed[place]));
  for (const [factor, row] of rows) {
    if (wanted.has(factor)) continue;
    row.remove();
    rows.delete(factor);
  }
  list.style.height = `${listed.length * ROW_HEIGHT}px`;
  places.forEach((place, number) => {
    const row = listRow(listed[place], place);
    if (list.children[number] !== row) list.insertBefore(row, list.children[number] ?? null);
  });
}

/** Return the row of a factor, the one that is drawn already where there is one, as it is to be now. */
function listRow(factor, place) {
  const row = rows.get(factor) ?? element("li", {}, element("a"));
  rows.set(factor, row);
  row.style.top = `${place * ROW_HEIGHT}px`;
  row.setAttribute("aria-setsize", listed.length);
  row.setAttribute("aria-posinset", place + 1);
  const link = row.firstElementChild;
  link.href = linkToFactor(factor);
  link.tabIndex = factor === cursor ? 0 : -1;
  link.dataset.factor = factor;
  link.toggleAttribute("aria-current", false);
  if (factor === view.factor) link.setAttribute("aria-current", "true");
  link.replaceChildren(
    element("b", {}, String(factor)),
    element("span", { class: names[factor] ? "label named" : "label", dir: "auto" }, shortened(labelOf(factor))),
    sparkline(curveOf(factor)),
    element("small", {}, levelBadge(factor), ...patternBadge(factor), ` ${foundText(factor)}${peakText(factor)}${percent(factors.frequency[factor])}`),
  );
  return row;
}

/** Move the cursor through the list, and the focus with it. */
function moveCursor(places) {
  const place = listed.indexOf(cursor);
  cursor = listed[Math.min(listed.length - 1, Math.max(0, place + places))] ?? null;
  bringIntoSight(cursor);
  rows.get(cursor)?.firstElementChild.focus({ preventScroll: true });
}

function peakText(factor) {
  const peak = factors.peak_layer[factor];
  return peak === null ? "" : `layer ${peak} · ${factors.strength[factor].toPrecision(3)} · `;
}

function patternBadge(factor) {
  return factors.pattern[factor] ? [" ", element("span", { class: "level" }, factors.pattern[factor])] : [];
}

function levelBadge(factor) {
  return element("span", { class: `level ${levelOf(factor)}` }, levelOf(factor));
}

/** Bring the row of the factor that is shown into sight; where the focus is in the list, it goes there. */
function scrollToFactor() {
  const hasFocus = byId("list").contains(document.activeElement);
  if (listed.includes(view.factor)) cursor = view.factor;
  bringIntoSight(cursor);
  if (hasFocus) rows.get(cursor)?.firstElementChild.focus({ preventScroll: true });
}

function bringIntoSight(factor) {
  const place = listed.indexOf(factor);
  const box = byId("list");
  if (place >= 0) {
    const top = place * ROW_HEIGHT;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + ROW_HEIGHT > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW_HEIGHT - box.clientHeight;
  }
  drawList();
}

/** Go to the factor that is some places further down the list, or to its first where the shown one is not in it. */
function step(places) {
  if (listed.length === 0) return;
  const place = listed.indexOf(view.factor);
  const next = place < 0 ? 0 : Math.min(listed.length - 1, Math.max(0, place + places));
  goTo(listed[next]);
}

/** Go to a random factor of a level; an empty level is any. One that never fires is taken only where all are such. */
function goToRandom(level) {
  const all = Array.from({ length: factors.n_factors }, (_, factor) => factor);
  const ofLevel = all.filter((factor) => level === "" || levelOf(factor) === level);
  const firing = ofLevel.filter((factor) => factors.frequency[factor] > 0);
  const candidates = firing.length > 0 ? firing : ofLevel;
  const others = candidates.filter((factor) => factor !== view.factor);
  const choice = others.length > 0 ? others : candidates;
  goTo(choice[Math.floor(Math.random() * choice.length)]);
}

/** Return the list as CSV. */
function listAsCsv() {
  const heading = ["factor", "name", "level", "peak_layer", "peak_importance", "frequency", "mean_activation", "top_tokens"];
  const rows = listed.map((factor) => [
    factor,
    names[factor] ?? "",
    levelOf(factor),
    factors.peak_layer[factor] ?? "",
    factors.strength[factor],
    factors.frequency[factor],
    factors.mean_activation[factor],
    factors.top_tokens[factor],
  ]);
  return asCsv([heading, ...rows]);
}
