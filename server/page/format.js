// Writes figures for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const ranks = new Intl.PluralRules("en", { type: "ordinal" });

/** 1234 as "1,234". */
export function count(number) {
  return whole.format(number);
}

/** "1 picture", "1,200 pictures". */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** "1st", "2nd", "13th". */
export function ordinal(number) {
  return count(number) + { one: "st", two: "nd", few: "rd", other: "th" }[ranks.select(number)];
}

/** A figure with few digits: 0.03, 1.2, 1,234. */
export function figure(number) {
  const size = Math.abs(number);
  return size >= 10 ? count(number) : String(Number(number.toPrecision(size >= 1 ? 2 : 1)));
}

/** A part of 1: "54 %", "0.7 %". */
export function percent(part) {
  const value = 100 * part;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value > 0 && value < 0.95 ? value.toFixed(1) : Math.round(value)} %`;
}

/** "0.4 ms", "1,234 ms"; from ten seconds on a duration. */
export function milliseconds(value) {
  if (value >= 10_000) return duration(value / 1000);
  return `${value < 10 ? Number(value.toFixed(1)) : count(value)} ms`;
}

/** Seconds as a person says them: "0.3 s", "12 s", "3 min", "2 h 5 min", "3 d". */
export function duration(seconds) {
  if (seconds < 99.5) return `${seconds < 9.95 ? Number(seconds.toFixed(1)) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (hours < 1) return `${minutes} min`;
  if (hours >= 48) return `${Math.round(hours / 24)} d`;
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

/** The time of day where the reader is: "14:05:09". */
export function timeOfDay(time) {
  return clock.format(new Date(time));
}

/** "812 B", "38 KiB", "9.5 MiB". */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(number || 1) / 10)));
  const value = number / 1024 ** step;
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} ${units[step]}`;
}
