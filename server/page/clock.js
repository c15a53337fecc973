// The server's time: ages and countdowns must not depend on the clock of the one who looks.

import { duration, milliseconds } from "./format.js";

let ahead = 0; // milliseconds by which the server's clock is ahead of this one

/** Learns the server's time from the Date header of an answer, which has whole seconds. */
export function learnTime(date) {
  const difference = Date.parse(date ?? "") - Date.now();
  if (Number.isFinite(difference)) ahead = Math.abs(difference) < 2000 ? 0 : difference;
}

/** Seconds from a time of the server until now; negative if it is yet to come. */
export function secondsFrom(time) {
  return (Date.now() + ahead - Date.parse(time)) / 1000;
}

/** How long ago a time of the server was, in whole seconds at least; empty for null. */
export function since(time) {
  return time ? duration(Math.max(0, Math.floor(secondsFrom(time)))) : "";
}

/** "in 1:47", which shows each second that passes. */
export function until(time) {
  const left = Math.ceil(-secondsFrom(time));
  return left > 0 ? `in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "now";
}

/** A wait in seconds, with milliseconds where it is short; a dash for null. */
export function wait(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 1 ? milliseconds(seconds * 1000) : duration(seconds);
}
