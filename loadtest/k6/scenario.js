// The load of `python -m loadtest run`, for k6: the same requests, the same checks on each answer, an open loop.
//
//   python -m loadtest scenario --url http://guard:8000 > scenario.json
//   k6 run -e URL=http://guard:8000 -e SCENARIO=$PWD/scenario.json -e RATE=200 -e SECONDS=60 loadtest/k6/scenario.js
//
// Also: API_KEY, CONNECTIONS (256), MAX_P99_MS (50), MAX_ERROR_SHARE (0.001), SUMMARY (a file for the numbers, as JSON).
// k6 exits with 99 when a threshold is missed. A request that finds no free connection is dropped, and counts against
// `dropped_iterations`, which must stay at 0.
import http from 'k6/http';
import exec from 'k6/execution';
import { check } from 'k6';
import { SharedArray } from 'k6/data';
import { Rate, Trend } from 'k6/metrics';

const url = __ENV.URL;
const exchanges = new SharedArray('scenario', () => JSON.parse(open(__ENV.SCENARIO)));
const wrong = new Rate('wrong_answers');
const failed = new Rate('not_answered_rightly');
const checks_ms = new Trend('checks_ms', true);

export const options = {
  scenarios: {
    guard: {
      executor: 'constant-arrival-rate',
      rate: Number(__ENV.RATE || 100),
      timeUnit: '1s',
      duration: `${__ENV.SECONDS || 60}s`,
      preAllocatedVUs: Number(__ENV.CONNECTIONS || 256),
    },
  },
  thresholds: {
    wrong_answers: ['rate==0'],
    not_answered_rightly: [`rate<=${__ENV.MAX_ERROR_SHARE || 0.001}`],
    checks_ms: [`p(99)<=${__ENV.MAX_P99_MS || 50}`],
    dropped_iterations: ['count==0'],
  },
  summaryTrendStats: ['min', 'med', 'p(90)', 'p(99)', 'p(99.9)', 'max', 'count'],
};

// What this client remembers of earlier answers, to ask again about them.
const pending = [];
const answered = [];

export default function () {
  const asked = followUp(exchanges[exec.scenario.iterationInTest % exchanges.length]);
  if (asked === null) return;
  const id = `k6-${exec.scenario.iterationInTest}`;
  const headers = Object.assign({ 'Content-Type': 'application/json', 'X-Request-Id': id }, asked.headers);
  if (__ENV.API_KEY && asked.has_key) headers.Authorization = `Bearer ${__ENV.API_KEY}`;
  const reply = http.request(asked.method, url + asked.path, asked.body, { headers, tags: { name: asked.kind } });
  if (asked.text_chars.length) checks_ms.add(reply.timings.duration);
  const is_expected = reply.status === asked.status;
  const is_honest = is_expected || reply.status === 429 || reply.status >= 500 || reply.status === 0;
  const is_right = is_expected && judge(asked, reply, id);
  failed.add(!is_right);
  wrong.add(!is_honest || (is_expected && !is_right));
}

function followUp(asked) {
  if (asked.kind === 'escalation') {
    return pending.length ? Object.assign({}, asked, { path: asked.path.replace('{escalation_id}', pending.pop()) }) : null;
  }
  if (asked.kind === 'feedback') {
    if (!answered.length) return null;
    const [id, verdict] = answered.pop();
    const body = JSON.stringify({ id, index: 0, verdict });
    return Object.assign({}, asked, { body });
  }
  return asked;
}

function judge(asked, reply, id) {
  const name = asked.kind;
  if (!check(reply, { 'the id is echoed': (r) => r.headers['X-Request-Id'] === id }, { name })) return false;
  const answer = reply.json();
  if (asked.code !== null) {
    return check(answer, { 'refused by name': (a) => a.id === id && a.error.code === asked.code }, { name });
  }
  if (asked.path === '/v1/check') {
    remember(answer);
    return check(
      answer,
      {
        'it is this request’s answer': (a) => a.id === id && a.results.length === asked.text_chars.length,
        'every result is sound': (a) => a.results.every((r, i) => isSound(r) && r.scanned_chars === asked.text_chars[i]),
      },
      { name },
    );
  }
  if (asked.path === '/v1/moderations') {
    return check(
      answer,
      {
        'it is this request’s answer': (a) => a.id === `modr-${id}` && a.results.length === asked.text_chars.length,
        'every result is sound': (a) =>
          a.results.every(
            (r) =>
              isSound(r.stillguard) &&
              r.flagged === (r.stillguard.verdict !== 'allow') &&
              Object.values(r.category_scores).every(isScore),
          ),
      },
      { name },
    );
  }
  return true;
}

function remember(answer) {
  for (const { escalation } of answer.results) {
    if (escalation && escalation.outcome === 'pending') pending.push(escalation.id);
  }
  pending.splice(0, pending.length - 16);
  const { verdict } = answer.results[0];
  if (verdict !== 'review') answered.push([answer.id, verdict]); // nobody can agree with that
  if (answered.length > 16) answered.shift();
}

function isSound(result) {
  const scores = Object.values(result.scores);
  const verdict = result.categories.length ? 'block' : 'allow';
  return (
    scores.length > 0 &&
    scores.every(isScore) &&
    result.categories.every((name) => name in result.scores) &&
    ['allow', 'review', 'block'].includes(result.verdict) &&
    (result.decided_by === 'student_degraded' || result.verdict === verdict) &&
    result.windows >= 1
  );
}

function isScore(score) {
  return typeof score === 'number' && score >= 0 && score <= 1;
}

export function handleSummary(data) {
  const metrics = JSON.stringify(data.metrics, null, 1);
  const lines = Object.entries(data.metrics).map(([name, metric]) => `${name}: ${JSON.stringify(metric.values)}`);
  return Object.assign({ stdout: `${lines.join('\n')}\n` }, __ENV.SUMMARY ? { [__ENV.SUMMARY]: metrics } : {});
}
