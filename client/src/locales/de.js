/** German. */

import { pluralOf } from "./plural.js";
import { reasonOf } from "./reasons.js";
import { roundedMinutes } from "./steps.js";

const lang = "de";
const number = (value) => value.toLocaleString(lang, { maximumFractionDigits: 1 });
const plural = pluralOf(lang);

const duration = (seconds) => {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${number(seconds / 3600)} h`;
};

export const texts = {
  lang,
  PENDING: "Wartet",
  RECEIVED: "Wartet",
  STARTED: "Läuft",
  PROGRESS: "Läuft",
  RETRY: "Neuer Versuch",
  SUCCESS: "Fertig",
  FAILURE: "Fehlgeschlagen",
  REVOKED: "Abgebrochen",
  LOST: "Der Worker ist verloren gegangen",
  cancelling: "Wird abgebrochen …",
  cancel: "Abbrechen",
  undo: "Rückgängig",
  cancelFailed: "Konnte nicht abgebrochen werden; bitte erneut versuchen",
  empty: "Noch keine Aufgaben",
  connecting: "Verbindung wird hergestellt …",
  polling: "Wird alle paar Sekunden aktualisiert",
  reconnecting: "Verbindung wird wiederhergestellt …",
  failed: "Nicht verbunden: bitte die Seite neu laden",
  signedOut: "Abgemeldet: bitte die Seite neu laden",
  offline: "Offline: nicht auf dem neuesten Stand",
  unreachable: "Der Server antwortet nicht oder lässt diese Seite nicht zu",
  not_signed_in: "Niemand ist angemeldet",
  cancelTask: (title) => `${title} abbrechen`,
  undoCancel: (title) => `Rückgängig: ${title} abbrechen`,
  percent: (percent) => `${Math.floor(percent)} %`,
  number,
  amount: (current, total) => `${number(current)} / ${number(total)}`,
  rate: (rate) => `${number(rate)}/s`,
  duration,
  left: (seconds) => {
    if (seconds < 10) return "noch wenige Sekunden";
    if (seconds < 60) return "noch weniger als eine Minute";
    return seconds < 3600 ? `noch etwa ${roundedMinutes(seconds)} min` : `noch etwa ${Math.round(seconds / 3600)} h`;
  },
  waited: (seconds) => `seit ${duration(seconds)}`,
  took: (seconds) => `dauerte ${duration(seconds)}`,
  endedAt: (date, isToday) => date.toLocaleString(lang, { timeStyle: "short", ...(!isToday && { dateStyle: "medium" }) }),
  ahead: (count) => plural(count, { one: `${count} davor`, other: `${count} davor` }),
  startsIn: (seconds) => `beginnt in ${duration(seconds)}`,
  startsAt: (date) => `beginnt am ${date.toLocaleString(lang)}`,
  attempt: (attempt, max) => `Versuch ${attempt}` + (max >= attempt ? ` von ${max}` : ""),
  summary: {
    running: (n) => plural(n, { one: `${n} läuft`, other: `${n} laufen` }),
    waiting: (n) => plural(n, { one: `${n} wartet`, other: `${n} warten` }),
    failed: (n) => `${n} fehlgeschlagen`,
    done: (n) => `${n} fertig`,
  },
  reason: reasonOf({
    no_worker: (queue) => `Für die Warteschlange ${queue} läuft kein Worker`,
    not_in_queue: () => "Die Aufgabe ist nicht mehr in ihrer Warteschlange",
    unstoppable: () => "Dieser Worker kann eine laufende Aufgabe nicht anhalten: sie läuft weiter, bis sie selbst nachsieht",
    expired: () => "Die Aufgabe wurde nicht rechtzeitig gestartet",
    not_queued: () => "Die Aufgabe konnte nicht eingereiht werden",
    not_awaited: () => "Die Aufgabe lief nicht, weil nichts sie mit await abwartet",
    result_not_kept: () => "Die Aufgabe lief, aber ihr Ergebnis konnte nicht aufbewahrt werden",
    rejected: () => "Die Aufgabe wurde abgelehnt",
    process_died: () => "Der Prozess der Aufgabe ist gestorben",
    too_long: () => "Die Aufgabe dauerte zu lange und wurde angehalten",
    worker_died: () => "Der Worker der Aufgabe ist gestorben",
    worker_stopped: () => "Der Worker der Aufgabe wurde angehalten",
    task_stopped: () => "Der Worker hat die Aufgabe vor ihrem Ende angehalten",
    not_reported: () => "Der Prozess der Aufgabe endete, ohne etwas zu melden",
    no_result: () => "Die Aufgabe endete ohne Ergebnis",
    unreadable_task: () => "Der Worker konnte die Aufgabe nicht lesen",
    unknown_task: (task) => `Kein Worker kennt die Aufgabe ${task}`,
    process_ended: (code) => `Die Aufgabe hat ihren Prozess beendet: Exit-Code ${code}`,
    progress_lost: () => "Redis hat den Fortschritt dieses Ablaufs verloren",
  }),
  actions: "Aktionen",
  rerun: "Erneut ausführen",
  rerunTask: (title) => `Erneut ausführen: ${title}`,
  rerunFailed: "Konnte nicht erneut gestartet werden",
  dismiss: "Ausblenden",
  dismissTask: (title) => `${title} ausblenden`,
  clearFinished: "Beendete ausblenden",
  filter: "Aufgaben filtern",
  groups: { running: "Läuft", waiting: "Wartet", finished: "Beendet" },
  more: (n) => `${n} weitere anzeigen`,
  overall: "Gesamtfortschritt",
  tasks: "Aufgaben",
  open: "Öffnen",
  download: "Herunterladen",
  members: "Teile",
  membersOf: (title) => `Teile von ${title}`,
  log: "Protokoll",
  logOf: (title) => `Protokoll von ${title}`,
  logEmpty: "Noch keine Zeilen",
  logLost: (n) => plural(n, { one: `${n} Zeile ausgelassen`, other: `${number(n)} Zeilen ausgelassen` }),
  logFailed: "Das Protokoll kann nicht geladen werden",
  logSearch: "Im Protokoll suchen",
  logLevel: "Mindeststufe",
  logFollow: "Folgen",
  copy: "Kopieren",
  copied: "Kopiert",
  inbox: "Benachrichtigungen",
  inboxEmpty: "Keine Benachrichtigungen",
  inboxFailed: "Die Benachrichtigungen können nicht geladen werden",
  unread: (n) => plural(n, { one: `${n} ungelesene Benachrichtigung`, other: `${n} ungelesene Benachrichtigungen` }),
  markRead: "Als gelesen markieren",
  markAllRead: "Alle als gelesen markieren",
  close: "Schließen",
};
