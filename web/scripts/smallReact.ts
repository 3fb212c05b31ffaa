/**
 * Removes from React the code that the page never runs. This code is for other browsers, for hydration, and for kinds
 * of elements that the page does not use, such as Suspense. Removing it saves about 15 kilobytes (gzipped). ADR 27
 * explains why.
 */
import { join } from 'node:path'
import { type ESTree, type Plugin, parseAst } from 'vite'

/** The browser features that React tests for, and the result in every browser that the page supports. */
const ANSWERS: readonly (readonly [RegExp, string])[] = [
  [/"documentMode" in document/g, 'false'],
  [/document\.documentMode/g, 'undefined'],
  [/"\w+" in (window|document)\b/g, 'true'],
  [/typeof setImmediate\b/g, '"undefined"'],
  [/typeof (window|window\.document|document|performance)(?![.\w])/g, '"object"'],
  [
    /typeof (reportError|(set|clear)Timeout|queueMicrotask|AbortController|MessageChannel|Promise|Weak(Map|Set)|Object\.is|performance\.\w+|window\.document\.createElement)\b/g,
    '"function"',
  ],
  // The server renders no HTML, so React never hydrates existing elements, and no part of the page waits for hydration.
  // Assignments and parameters are left unchanged.
  [/\bisHydrating(?![$\w]| = |\s*\)\s*\{)/g, 'false'],
  [/[\w.]+\.isDehydrated\b/g, 'false'],
  [/[\w$.]+\.dehydrated\b/g, 'null'],
  // The page does not render any element that React would move to the head of the document.
  [/(?<!function )\bisHostHoistableType\(/g, 'false && ('],
]

/** React's numbers for kinds of elements that the page does not use. A test checks these numbers against the installed
 * version of React. */
const UNUSED_TAGS: ReadonlySet<unknown> = new Set([
  4, // portal
  8, // StrictMode
  9, // consumer of a context
  11, // forwardRef
  12, // Profiler
  13, // Suspense
  16, // lazy
  18, // HTML rendered by a server
  19, // SuspenseList
  22, // children of Suspense or Activity
  26, // title, meta, link, style, script
  27, // html, head, body
  30, // ViewTransition
  31, // Activity
])
const UNUSED_TYPES =
  /^REACT_(ACTIVITY|CONSUMER|FORWARD_REF|LAZY|PORTAL|PROFILER|STRICT_MODE|SUSPENSE|SUSPENSE_LIST|VIEW_TRANSITION)_TYPE$/

type Edit = readonly [start: number, end: number, text: string]

function isTag(node: ESTree.Node): boolean {
  if (node.type === 'MemberExpression') return isTag(node.property)
  return node.type === 'Identifier' && node.name === 'tag'
}

/** Returns whether a comparison of `node` with `other` fails for every element of the page. */
function isUnused(node: ESTree.Node, other: ESTree.Node): boolean {
  if (node.type === 'Literal') return UNUSED_TAGS.has(node.value) && isTag(other)
  return node.type === 'Identifier' && UNUSED_TYPES.test(node.name)
}

/** Without its label, a case runs only if the case before it falls through. If all the cases before it are unused, the
 * case never runs. */
function casesOf({ cases, discriminant }: ESTree.SwitchStatement): readonly Edit[] {
  const isUsed = cases.map(({ test }) => test === null || !isUnused(test, discriminant))
  return cases.flatMap(({ start, end, consequent: [body] }, at): readonly Edit[] => {
    if (isUsed[at]) return []
    if (isUsed.slice(0, at).includes(true)) return [[start, body?.start ?? end, '']]
    if (body === undefined) return []
    return [
      [body.start, body.start, 'if (false) {'],
      [end, end, '}'],
    ]
  })
}

function editsOf(node: ESTree.Node): readonly Edit[] {
  if (node.type === 'SwitchStatement') return casesOf(node)
  if (node.type !== 'BinaryExpression' || !/^[!=]==$/.test(node.operator)) return []
  const { left, right, start, end, operator } = node
  return isUnused(left, right) || isUnused(right, left) ? [[start, end, String(operator === '!==')]] : []
}

function allEdits(node: unknown): readonly Edit[] {
  if (Array.isArray(node)) return node.flatMap(allEdits)
  if (typeof node !== 'object' || node === null) return []
  const own = 'type' in node ? editsOf(node as ESTree.Node) : []
  return [...own, ...Object.values(node).flatMap(allEdits)]
}

/** Returns React's code without the branches for kinds of elements that the page does not use. */
export function withoutUnused(code: string): string {
  const fromTheEnd = [...allEdits(parseAst(code))].sort((a, b) => b[0] - a[0] || b[1] - a[1])
  return fromTheEnd.reduce((left, [start, end, text]) => left.slice(0, start) + text + left.slice(end), code)
}

export const smallReact: Plugin = {
  name: 'small-react',
  apply: 'build',
  // The part of react-dom that react-dom/client needs.
  config: () => ({
    resolve: {
      alias: [{ find: /^react-dom$/, replacement: join(import.meta.dirname, '../src/reactDom.cjs') }],
    },
  }),
  transform: (code, id) =>
    /node_modules\/(react|react-dom|scheduler)\/cjs\//.test(id)
      ? withoutUnused(ANSWERS.reduce((left, [question, answer]) => left.replace(question, answer), code))
      : undefined,
}
