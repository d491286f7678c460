// The server's arithmetic on an example's scores: mixing, ranking, shares. Pure functions on typed arrays.

// Mix scores convexly; amounts need not sum to one.
export function mixed(scores, amounts) {
  const names = Object.keys(amounts).filter((name) => amounts[name] > 0);
  const total = names.reduce((sum, name) => sum + amounts[name], 0);
  const result = new Float64Array(scores[names[0]].length);
  for (const name of names) {
    const part = amounts[name] / total, its = scores[name];
    for (let row = 0; row < result.length; row++) result[row] += part * its[row];
  }
  return result;
}

// All rows, best first.
export function ordered(scores) {
  return Uint32Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
}

// What every row has above `level` standard deviations, as `portions` in attribution/answer/shares.py before its sum.
export function above(scores, level) {
  const mean = scores.reduce((a, b) => a + b, 0) / scores.length;
  const variance = scores.reduce((sum, s) => sum + (s - mean) ** 2, 0) / scores.length;
  const spread = Math.max(Math.sqrt(variance), 1e-12);
  return scores.map((score) => Math.max((score - mean) / spread - level, 0));
}

// Share what stands out among owners (a number for each row): [{owner, share, low, high}], the largest first.
export function shared(scores, owners, count, level, resamples, draws) {
  const high = above(scores, level);
  const rows = [...high.keys()].filter((row) => high[row] > 0);
  const mass = new Float64Array(count);
  for (const row of rows) mass[owners[row]] += high[row];
  const known = [...mass.keys()].filter((owner) => mass[owner] > 0);
  const total = known.reduce((sum, owner) => sum + mass[owner], 0);
  const place = new Int32Array(count);
  known.forEach((owner, number) => { place[owner] = number; });
  const drawn = resampled(rows.map((row) => high[row]), rows.map((row) => place[owners[row]]), known.length, resamples, draws);
  return known
    .map((owner, number) => {
      const sorted = drawn[number].sort();
      return { owner, share: mass[owner] / total, low: quantile(sorted, 0.025), high: quantile(sorted, 0.975) };
    })
    .sort((a, b) => b.share - a.share);
}

// Every owner's share in each resample, by the server's own Poisson draws: two in a byte, row after row.
function resampled(values, owners, count, resamples, draws) {
  const result = Array.from({ length: count }, () => new Float64Array(resamples));
  const mass = new Float64Array(count);
  let at = 0;
  for (let turn = 0; turn < resamples; turn++) {
    mass.fill(0);
    let total = 0;
    for (let i = 0; i < values.length; i++, at++) {
      const times = at & 1 ? draws[at >> 1] >> 4 : draws[at >> 1] & 15;
      mass[owners[i]] += times * values[i];
      total += times * values[i];
    }
    total = Math.max(total, 1e-12);
    for (let owner = 0; owner < count; owner++) result[owner][turn] = mass[owner] / total;
  }
  return result;
}

function quantile(sorted, q) {
  const at = q * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}

// What a mix's parts are: the questions' parts, weighted as their scores are. [range][block]
export function mixedParts(parts, amounts) {
  const names = Object.keys(amounts).filter((name) => amounts[name] > 0);
  const total = names.reduce((sum, name) => sum + amounts[name], 0);
  return parts[names[0]].map((range, r) => range.map((_, b) =>
    names.reduce((sum, name) => sum + (amounts[name] / total) * parts[name][r][b], 0)));
}
