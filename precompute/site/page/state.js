// What is looked at, and its address: #example=3&style=1&artist=NAME. An address may come from anybody.

export const MIX = "mix";

export function begin(demo) {
  return { example: 0, ask: demo.whole, amounts: { [demo.whole]: 1 }, artist: "" };
}

export function parsed(hash, demo) {
  const fields = new URLSearchParams(hash.replace(/^#/, "")), state = begin(demo);
  const number = Number(fields.get("example"));
  if (Number.isInteger(number) && number >= 0 && number < demo.examples.length) state.example = number;
  const asked = demo.questions.filter((name) => name in demo.examples[state.example].phrases);
  const amounts = {};
  for (const name of asked) {
    const amount = Number(fields.get(name));
    if (amount > 0 && amount <= 1) amounts[name] = amount;
  }
  const names = Object.keys(amounts);
  if (names.length) state.amounts = amounts;
  state.ask = fields.get("ask") === MIX || names.length > 1 ? MIX : names[0] ?? demo.whole;
  if (demo.artists.includes(fields.get("artist"))) state.artist = fields.get("artist");
  return state;
}

export function address(state) {
  const fields = new URLSearchParams({ example: state.example });
  for (const [name, amount] of Object.entries(state.amounts)) if (amount > 0) fields.set(name, amount);
  if (state.ask === MIX) fields.set("ask", MIX);
  if (state.artist) fields.set("artist", state.artist);
  return `#${fields}`;
}

export function amountsOf(state) {
  return Object.fromEntries(Object.entries(state.amounts).filter(([, amount]) => amount > 0));
}
