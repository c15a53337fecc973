// Writes figures for people: numbers, parts, durations, times and bytes.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** 1234 as "1,234". */
export function count(number) {
  return whole.format(number);
}

/** `count(n)` and a noun: "1 picture", "1,200 pictures". */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A figure with two or three digits: 0.034, 1.2, 12, 1,234; "0" for nothing. */
export function figure(number) {
  if (number === 0) return "0";
  const size = Math.abs(number);
  return size >= 10 ? count(number) : String(Number(number.toPrecision(size >= 1 ? 2 : 1)));
}

/** A part of 1 in percent: "54 %", and with a digit more below one percent. */
export function percent(part) {
  const value = 100 * part;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value > 0 && value < 1 ? value.toFixed(1) : Math.round(value)} %`;
}

/** Milliseconds with their unit: "0.4 ms", "34 ms", "1,234 ms"; from ten seconds on as a duration. */
export function milliseconds(value) {
  if (value >= 10_000) return duration(value / 1000);
  return `${value < 10 ? Number(value.toFixed(1)) : count(value)} ms`;
}

/** Seconds as a person says them: "0.3 s", "12 s", "3 min", "2 h 5 min", "3 d". */
export function duration(seconds) {
  if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours >= 48) return `${Math.round(hours / 24)} d`;
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

/** How long ago a time of the server was, by this machine's clock: never less than 0 s. */
export function age(time) {
  return duration(secondsSince(time));
}

/** Seconds since a time of the server, such as "2030-01-31T12:00:00Z". */
export function secondsSince(time) {
  return Math.max(0, (Date.now() - Date.parse(time)) / 1000);
}

/** The time of day where the reader is: "14:05:09". */
export function timeOfDay(time) {
  return clock.format(new Date(time));
}

/** "812 B", "38 KB" or "10 MB", as decimal or, with `binary`, as limits are set: "10 MiB". */
export function bytes(number, binary = false) {
  const [step, units] = binary ? [1024, ["B", "KiB", "MiB", "GiB", "TiB"]] : [1000, ["B", "KB", "MB", "GB", "TB"]];
  let [value, unit] = [number, 0];
  while (value >= step && unit < units.length - 1) [value, unit] = [value / step, unit + 1];
  return `${value < 10 && unit > 0 ? Number(value.toFixed(1)) : Math.round(value)} ${units[unit]}`;
}

/** "1st", "2nd", "3rd", "11th". */
export function ordinal(number) {
  const ends = { one: "st", two: "nd", few: "rd", other: "th" };
  return count(number) + ends[new Intl.PluralRules("en", { type: "ordinal" }).select(number)];
}
