import { useEffect, useRef } from 'react'
import { classes } from '../classes'
import { type PullState, STATE_MEANING, STATE_WORD } from '../model/pullState'
import shared from '../styles/shared.module.css'
import styles from './Help.module.css'
import { Icon } from './Icon'
import phases from './Waterfall.module.css'

const KEYS: readonly (readonly [string, string])[] = [
  ['/', 'go to the search'],
  ['↑ ↓', 'move from row to row; Page Up and Down, Home and End do too'],
  ['Enter, Space', 'open or close a row'],
  ['Esc', 'close the row, the list of problems, or this help'],
  ['?', 'show this help'],
]

const LAYERS: readonly (readonly [string | undefined, string])[] = [
  [phases.waiting, 'waiting for a download slot'],
  [phases.downloading, 'downloads'],
  [phases.borrowed, 'downloaded by another pull'],
  [phases.downloaded, 'downloaded, not yet unpacked'],
  [phases.extracting, 'unpacks'],
  [phases.cached, 'already on the node'],
  [phases.remote, 'served by the snapshotter on demand'],
  [phases.failed, 'failed'],
]

/** The legend of all colours and symbols, and the keys. */
export function Help() {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== '?' || event.ctrlKey || event.metaKey || event.altKey) return
      if (event.target instanceof HTMLElement && event.target.matches('input, textarea, select')) return
      event.preventDefault()
      if (dialog.current?.open === true) dialog.current.close()
      else dialog.current?.showModal()
    }
    document.addEventListener('keydown', onKey)
    return () => document.removeEventListener('keydown', onKey)
  }, [])
  const open = () => dialog.current?.showModal()
  const close = () => dialog.current?.close()
  return (
    <>
      <button
        type="button"
        className={shared.round}
        aria-label="Help: colours and keys"
        title="Help (?)"
        onClick={open}
      >
        <Icon name="help" size={18} />
      </button>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: Esc closes a dialog by itself */}
      <dialog
        ref={dialog}
        className={styles.dialog}
        aria-label="Help"
        onClick={event => event.target === dialog.current && close()}
      >
        <div className={styles.content}>
          <div className={shared.bar}>
            <h2 className={styles.title}>What you see</h2>
            <button type="button" className={shared.button} onClick={close}>
              Close
            </button>
          </div>
          <h3 className={shared.heading}>States</h3>
          <dl className={styles.list}>
            {Object.entries(STATE_WORD).map(([state, word]) => (
              <div key={state}>
                <dt className={classes(styles.term, shared[state])}>
                  <Icon name={state as PullState} /> {word}
                </dt>
                <dd>{STATE_MEANING[state as PullState]}</dd>
              </div>
            ))}
          </dl>
          <h3 className={shared.heading}>Bars</h3>
          <p className={shared.dim}>
            A pull’s bar is blue where bytes are downloaded and violet where they are unpacked. The word below
            it names what limits the pull, if that is known. An amber <i>2.9× usual 0:20</i> means that the
            pull is slower than usual: it takes 2.9 times as long as pulls like this one do. An open row shows
            one lane per layer:
          </p>
          <dl className={classes(styles.list, styles.lanes)}>
            {LAYERS.map(([look, meaning]) => (
              <div key={meaning}>
                <dt>
                  <i className={classes(phases.swatch, look)} />
                </dt>
                <dd>{meaning}</dd>
              </div>
            ))}
          </dl>
          <h3 className={shared.heading}>Keys</h3>
          <dl className={styles.list}>
            {KEYS.map(([key, does]) => (
              <div key={key}>
                <dt>
                  <kbd>{key}</kbd>
                </dt>
                <dd>{does}</dd>
              </div>
            ))}
          </dl>
        </div>
      </dialog>
    </>
  )
}
