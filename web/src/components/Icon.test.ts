import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'

const read = (file: string) => readFileSync(new URL(file, import.meta.url), 'utf8')

it('index.html contains a drawing for each icon name', () => {
  const page = read('../../index.html')
  const drawn = [...page.matchAll(/<symbol id="icon-(\w+)"/g)].map(([, name]) => name)
  const names = [...read('Icon.tsx').matchAll(/\| '(\w+)'/g)].map(([, name]) => name)
  expect(names.length).toBeGreaterThan(0)
  expect(drawn.sort()).toEqual(names.sort())
})
