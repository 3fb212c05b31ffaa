import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { version } from 'react-dom'
import { expect, test } from 'vitest'
import { withoutUnused } from './smallReact'

const SOURCES = join(import.meta.dirname, '../src')

function run(code: string, tag: number): unknown {
  return new Function('node', `${code}\nreturn kindOf(node)`)({ tag })
}

const SWITCH = `
function kindOf(node) {
  switch (node.tag) {
    case 31:
      var kind = 'activity'
      break
    case 0:
    case 11:
      kind = 'function'
      break
    case 13:
      return 'suspense'
    case 5:
      kind = 'host'
    case 22:
      kind = kind + ', ' + (22 === node.tag ? 'hidden' : 'shown')
      break
    case 30:
    case 6:
      kind = 'text'
      break
    default:
      kind = 'other'
  }
  return kind
}`

test('the numbers of the unused kinds were checked with the installed version of React', () => {
  // Before you change this version, compare UNUSED_TAGS with React's file ReactWorkTags.js.
  expect(version).toBe('19.3.1')
})

test.each([0, 5, 6, 7])('an element of a used kind is treated as before: %d', tag => {
  expect(run(withoutUnused(SWITCH), tag)).toBe(run(SWITCH, tag))
})

test('no branch for an unused kind is reachable', () => {
  const left = withoutUnused(SWITCH)

  expect(left).toContain("if (false) {var kind = 'activity'")
  expect(left).toContain("(false ? 'hidden' : 'shown')")
  expect(left).not.toMatch(/case (11|13|22|30)/)
})

test('a switch that contains only unused kinds remains valid', () => {
  const left = withoutUnused('switch (node.tag) { case 31: case 13: hide() }')

  expect(left).toBe('switch (node.tag) { case 31: case 13: if (false) {hide()} }')
})

test('other numbers are left unchanged', () => {
  const code = 'switch (key) { case 13: start() }; lane.tag & 13; 13 === key; 5 !== node.tag'

  expect(withoutUnused(code)).toBe(code)
})

test('the page does not use any kind of element that the build removes from React', () => {
  const files = readdirSync(SOURCES, { recursive: true }).map(String)
  for (const file of files.filter(name => /\.tsx?$/.test(name) && !/\.test\./.test(name))) {
    const source = readFileSync(join(SOURCES, file), 'utf8')

    expect(source, file).not.toMatch(/<(title|meta|link|style|script|html|head|body)\b/)
    expect(source, file).not.toMatch(/\.Consumer\b|<Fragment[^>]* ref=/)
    const imported = Array.from(
      source.matchAll(/import (?!type)([^;]*?) from 'react(?:-dom)?'/g),
      ([, all]) => all,
    )
    expect(imported.join(' '), file).not.toMatch(
      /\b(Activity|createPortal|forwardRef|lazy|Profiler|StrictMode|Suspense\w*|use|ViewTransition)\b|\*/,
    )
  }
})
