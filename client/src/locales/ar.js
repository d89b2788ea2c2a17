/** Arabic. */

import { pluralOf } from "./plural.js";
import { reasonOf } from "./reasons.js";
import { roundedMinutes } from "./steps.js";

const lang = "ar";
const number = (value) => value.toLocaleString(lang, { maximumFractionDigits: 1 });
const plural = pluralOf(lang);

const seconds_ = (n) => plural(n, { one: "ثانية واحدة", two: "ثانيتان", few: `${number(n)} ثوانٍ`, other: `${number(n)} ثانية` });
const minutes = (n) => plural(n, { one: "دقيقة واحدة", two: "دقيقتان", few: `${number(n)} دقائق`, other: `${number(n)} دقيقة` });
const hours = (n) => plural(n, { one: "ساعة واحدة", two: "ساعتان", few: `${number(n)} ساعات`, other: `${number(n)} ساعة` });

const duration = (seconds) => {
  if (seconds < 60) return seconds_(Math.round(seconds));
  return seconds < 3600 ? minutes(Math.round(seconds / 60)) : hours(Math.round(seconds / 360) / 10);
};

export const texts = {
  lang,
  PENDING: "في الانتظار",
  RECEIVED: "في الانتظار",
  STARTED: "قيد التنفيذ",
  PROGRESS: "قيد التنفيذ",
  RETRY: "إعادة المحاولة",
  SUCCESS: "تم",
  FAILURE: "فشل",
  REVOKED: "أُلغي",
  LOST: "فُقد العامل",
  cancelling: "جارٍ الإلغاء…",
  cancel: "إلغاء",
  undo: "تراجع",
  cancelFailed: "تعذّر الإلغاء؛ حاول مرة أخرى",
  empty: "لا توجد مهام بعد",
  connecting: "جارٍ الاتصال…",
  polling: "يُحدَّث كل بضع ثوانٍ",
  reconnecting: "جارٍ إعادة الاتصال…",
  failed: "غير متصل: أعد تحميل الصفحة",
  signedOut: "تم تسجيل الخروج: أعد تحميل الصفحة",
  offline: "غير متصل بالشبكة: البيانات ليست حديثة",
  unreachable: "لا يجيب الخادم أو لا يسمح بمصدر هذه الصفحة",
  not_signed_in: "لم يسجّل أحد الدخول",
  cancelTask: (title) => `إلغاء ${title}`,
  undoCancel: (title) => `تراجع: إلغاء ${title}`,
  percent: (percent) => `${number(Math.floor(percent))}٪`,
  number,
  amount: (current, total) => `${number(current)} / ${number(total)}`,
  rate: (rate) => `${number(rate)}/ث`,
  duration,
  left: (seconds) => {
    if (seconds < 10) return "بقيت ثوانٍ قليلة";
    if (seconds < 60) return "بقي أقل من دقيقة";
    return seconds < 3600 ? `بقي نحو ${minutes(roundedMinutes(seconds))}` : `بقي نحو ${hours(Math.round(seconds / 3600))}`;
  },
  waited: (seconds) => `منذ ${duration(seconds)}`,
  took: (seconds) => `استغرق ${duration(seconds)}`,
  endedAt: (date, isToday) => date.toLocaleString(lang, { timeStyle: "short", ...(!isToday && { dateStyle: "medium" }) }),
  ahead: (count) => `${number(count)} قبله`,
  startsIn: (seconds) => `يبدأ بعد ${duration(seconds)}`,
  startsAt: (date) => `يبدأ في ${date.toLocaleString(lang)}`,
  attempt: (attempt, max) => `المحاولة ${number(attempt)}` + (max >= attempt ? ` من ${number(max)}` : ""),
  comma: "، ",
  summary: {
    running: (n) => `${number(n)} قيد التنفيذ`,
    waiting: (n) => `${number(n)} في الانتظار`,
    failed: (n) => `${number(n)} فشلت`,
    done: (n) => `${number(n)} تمت`,
  },
  reason: reasonOf({
    no_worker: (queue) => `لا يعمل أي عامل لقائمة الانتظار \u2068${queue}\u2069`,
    not_in_queue: () => "لم تعد المهمة في قائمة انتظارها",
    unstoppable: () => "لا يستطيع هذا العامل إيقاف مهمة قيد التنفيذ: تستمر حتى تتحقق بنفسها",
    expired: () => "لم تبدأ المهمة في الوقت المحدد",
    not_queued: () => "تعذّر وضع المهمة في قائمة الانتظار",
    not_awaited: () => "لم تُنفّذ المهمة لأن لا شيء ينتظرها",
    result_not_kept: () => "نُفّذت المهمة، لكن تعذّر حفظ نتيجتها",
    rejected: () => "رُفضت المهمة",
    process_died: () => "توقفت العملية التي تنفّذ المهمة",
    too_long: () => "استغرقت المهمة وقتًا أطول من المسموح فأُوقفت",
    worker_died: () => "توقف العامل الذي ينفّذ المهمة",
    worker_stopped: () => "أُوقف العامل الذي ينفّذ المهمة",
    task_stopped: () => "أوقف العامل المهمة قبل نهايتها",
    not_reported: () => "انتهت عملية المهمة دون أن تبلّغ عن شيء",
    no_result: () => "انتهت المهمة دون نتيجة",
    unreadable_task: () => "لم يستطع العامل قراءة المهمة",
    unknown_task: (task) => `لا يعرف أي عامل المهمة \u2068${task}\u2069`,
    process_ended: (code) => `أنهت المهمة عمليتها: رمز الخروج ${code}`,
    progress_lost: () => "فقد Redis تقدّم سير العمل هذا",
  }),
  actions: "إجراءات",
  rerun: "تشغيل مجددًا",
  rerunTask: (title) => `تشغيل مجددًا: ${title}`,
  rerunFailed: "تعذّر التشغيل مجددًا",
  dismiss: "إخفاء",
  dismissTask: (title) => `إخفاء ${title}`,
  clearFinished: "إخفاء المنتهية",
  filter: "تصفية المهام",
  groups: { running: "قيد التنفيذ", waiting: "في الانتظار", finished: "المنتهية" },
  more: (n) => `عرض ${number(n)} أخرى`,
  overall: "التقدم الإجمالي",
  tasks: "المهام",
  open: "فتح",
  download: "تنزيل",
  members: "الأجزاء",
  membersOf: (title) => `أجزاء ${title}`,
  log: "السجل",
  logOf: (title) => `سجل ${title}`,
  logEmpty: "لا توجد أسطر بعد",
  logLost: (n) => plural(n, { one: "حُذف سطر واحد", two: "حُذف سطران", few: `حُذفت ${number(n)} أسطر`, other: `حُذف ${number(n)} سطرًا` }),
  logFailed: "تعذّر تحميل السجل",
  logSearch: "بحث في السجل",
  logLevel: "أدنى مستوى",
  logFollow: "متابعة",
  copy: "نسخ",
  copied: "تم النسخ",
  inbox: "الإشعارات",
  inboxEmpty: "لا توجد إشعارات",
  inboxFailed: "تعذّر تحميل الإشعارات",
  unread: (n) => plural(n, { zero: "لا إشعارات غير مقروءة", one: "إشعار غير مقروء", two: "إشعاران غير مقروءين", few: `${number(n)} إشعارات غير مقروءة`, other: `${number(n)} إشعارًا غير مقروء` }),
  markRead: "تعليم كمقروء",
  markAllRead: "تعليم الكل كمقروء",
  close: "إغلاق",
};
