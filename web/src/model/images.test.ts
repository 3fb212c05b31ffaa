import { expect, it } from 'vitest'
import { fullReference, imageName, registryOf } from './images'

it.each([
  ['docker.io/library/nginx:1.27', 'docker.io/', 'library/nginx', ':1.27'],
  ['localhost/foo', 'localhost/', 'foo', ''],
  ['registry:5000/a/b@sha256:0123456789abcdef', 'registry:5000/', 'a/b', '@sha256:0123456789ab'],
  ['ghcr.io/a/b:2@sha256:0123456789abcdef', 'ghcr.io/', 'a/b', ':2'],
  ['nginx', '', 'nginx', ''],
  ['__pulling__', '', 'image not yet known', ''],
])('%s has three parts', (ref, registry, repository, tag) => {
  expect(imageName(ref)).toEqual({ registry, repository, tag })
})

it('prefers the registry in the reference to the registry from another source', () => {
  expect(registryOf({ imageRef: 'ghcr.io/a/b:1', registry: 'mirror.local' })).toBe('ghcr.io')
  expect(registryOf({ imageRef: '__pulling__', registry: 'quay.io' })).toBe('quay.io')
  expect(registryOf({ imageRef: '__pulling__' })).toBe('unknown')
})

it.each([
  ['nginx', 'docker.io/library/nginx:latest'],
  ['grafana/grafana:12', 'docker.io/grafana/grafana:12'],
  ['quay.io/a/b', 'quay.io/a/b:latest'],
  ['localhost:5000/a:1', 'localhost:5000/a:1'],
  ['redis@sha256:0123456789abcdef', 'docker.io/library/redis@sha256:0123456789abcdef'],
  ['', ''],
])('expands %s to the reference that the node requests', (image, reference) => {
  expect(fullReference(image)).toBe(reference)
})
