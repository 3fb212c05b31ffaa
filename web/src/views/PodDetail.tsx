import { CopyButton } from '../components/CopyButton'
import { ImageLabel } from '../components/ImageLabel'
import { clock, percent } from '../format'
import type { ContainerRow, PodRow } from '../podRows'
import { changeUrl } from '../useUrl'
import styles from './PodsView.module.css'
import { ContainerState } from './podColumns'

const KIND_WORD = {
  init: 'init container',
  app: 'container',
  ephemeral: 'ephemeral container',
  volume: 'volume made from an image',
} as const

export function PodDetail({ row }: { readonly row: PodRow }) {
  const { namespace, podName, owner, nodeName } = row.pod
  return (
    <>
      <div className={styles.top}>
        <span>
          {[owner, nodeName === '' ? 'not yet on a node' : `on ${nodeName}`].filter(Boolean).join(' · ')}
        </span>
        <CopyButton text={`kubectl -n ${namespace} describe pod ${podName}`}>kubectl describe</CopyButton>
      </div>
      <ul className={styles.containers}>
        {row.containers.map(one => (
          <ContainerLine key={`${one.container.kind}/${one.container.container}`} row={one} />
        ))}
      </ul>
    </>
  )
}

function ContainerLine({ row }: { readonly row: ContainerRow }) {
  const { container, pull, state } = row
  return (
    <li className={styles.container}>
      <ContainerState state={state} />
      <span className={styles.name} title={KIND_WORD[container.kind]}>
        <bdi>{container.container}</bdi>{' '}
        {container.kind !== 'app' && <span className={styles.waiting}>{container.kind}</span>}
      </span>
      <ImageLabel imageRef={pull?.imageRef ?? container.image} />
      <span className={styles.end}>{percent(row.percent)}</span>
      <span className={styles.end}>{row.etaSeconds === undefined ? '' : clock(row.etaSeconds)}</span>
      {pull === undefined ? (
        <span className={styles.waiting}>{container.waitingReason}</span>
      ) : (
        <button
          type="button"
          className={styles.link}
          onClick={() =>
            changeUrl({
              view: 'pulls',
              query: `image:${pull.imageRef} node:${pull.nodeName}`,
              sort: undefined,
              open: [pull.id],
            })
          }
        >
          layers
        </button>
      )}
      {container.error !== undefined && <p className={styles.error}>{container.error}</p>}
    </li>
  )
}
