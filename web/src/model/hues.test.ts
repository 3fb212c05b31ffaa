import { expect, it } from 'vitest'
import { HUES, hueOf } from './hues'

it('keeps the colour of a registry, and gives different registries different colours', () => {
  const hosts = ['docker.io', 'ghcr.io', 'quay.io', 'registry.k8s.io', 'a.corp', 'b.corp', 'c.corp', 'd.corp']
  const hues = hosts.map(hueOf)
  expect(new Set(hues).size).toBe(HUES)
  expect([...hosts].reverse().map(hueOf).reverse()).toEqual(hues)
})

it('shares colours when all are taken', () => {
  for (const host of ['e.corp', 'f.corp', 'g.corp', '__proto__', '']) {
    const hue = hueOf(host)
    expect(hue).toBeGreaterThanOrEqual(0)
    expect(hue).toBeLessThan(HUES)
    expect(hueOf(host)).toBe(hue)
  }
})
