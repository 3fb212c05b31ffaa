import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { HUES, hueOf, huesOf } from './hues'

const KNOWN = ['docker.io', 'ghcr.io', 'quay.io', 'registry.k8s.io']
const private_ = (count: number) => Array.from({ length: count }, (_, n) => `registry-${n}.corp`)

it('assigns the same colours in any order, and a different colour to each registry', () => {
  const hosts = [...KNOWN, ...private_(HUES - KNOWN.length)]
  const hues = huesOf(hosts)
  expect(new Set(hosts.map(host => hues.get(host))).size).toBe(HUES)
  expect(huesOf([...hosts].reverse())).toEqual(hues)
})

it('a registry keeps its colour if no other registry has the same one', () => {
  const [alone = '', ...others] = private_(40)
  const own = huesOf([alone]).get(alone)
  const elsewhere = others.filter(host => huesOf([host]).get(host) !== own).slice(0, 4)
  expect(huesOf([...elsewhere, alone]).get(alone)).toBe(own)
  expect(huesOf([...KNOWN, alone]).get(alone)).toBe(own)
})

it('gives the colour to the alphabetically first name if two names hash to the same colour', () => {
  const hosts = private_(40)
  const hueAlone = (host: string) => huesOf([host]).get(host)
  const first = 'registry-0.corp'
  const second = hosts.find(host => host !== first && hueAlone(host) === hueAlone(first)) ?? ''
  for (const both of [
    [first, second],
    [second, first],
  ]) {
    const hues = huesOf(both)
    expect(hues.get(first)).toBe(hueAlone(first))
    expect(hues.get(second)).not.toBe(hueAlone(first))
  }
})

it('reuses colours when all are taken', () => {
  for (const host of [...private_(30), '__proto__', '']) {
    const hue = hueOf(host)
    expect(hue).toBeGreaterThanOrEqual(0)
    expect(hue).toBeLessThan(HUES)
  }
})

/** The lightness and the two colour axes of OKLab, a colour space in which distances correspond to perceived
 * differences. */
function oklab(colour: string): readonly [number, number, number] {
  const [r = 0, g = 0, b = 0] = linear(colour)
  const l = Math.cbrt(0.4122 * r + 0.5363 * g + 0.0514 * b)
  const m = Math.cbrt(0.2119 * r + 0.6807 * g + 0.1074 * b)
  const s = Math.cbrt(0.0883 * r + 0.2817 * g + 0.63 * b)
  return [
    0.2105 * l + 0.7936 * m - 0.0041 * s,
    1.978 * l - 2.4286 * m + 0.4506 * s,
    0.0259 * l + 0.7828 * m - 0.8087 * s,
  ]
}

function linear(colour: string): readonly number[] {
  return [1, 3, 5].map(at => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  })
}

function luminance(colour: string): number {
  const [r = 0, g = 0, b = 0] = linear(colour)
  return 0.2126 * r + 0.7152 * g + 0.0722 * b
}

it.each([
  ['light', 1],
  ['dark', 2],
] as const)('differ clearly in the %s theme', (_, theme) => {
  const tokens = readFileSync(new URL('../styles/tokens.css', import.meta.url), 'utf8')
  const pattern = (name: string) =>
    new RegExp(`--${name}: light-dark\\((#[0-9a-f]{6}), (#[0-9a-f]{6})\\)`, 'g')
  const values = (name: string) => [...tokens.matchAll(pattern(name))].map(found => found[theme] ?? '')
  const colours = values('band-\\d+')
  const [surface = ''] = values('surface')
  expect(colours).toHaveLength(HUES)
  colours.forEach((colour, at) => {
    const [bright = 0, dark = 0] = [luminance(colour), luminance(surface)].sort((a, b) => b - a)
    expect((bright + 0.05) / (dark + 0.05)).toBeGreaterThanOrEqual(3)
    for (const other of colours.slice(at + 1))
      expect(
        Math.hypot(...oklab(colour).map((part, axis) => part - (oklab(other)[axis] ?? 0))),
      ).toBeGreaterThan(0.15)
  })
})
