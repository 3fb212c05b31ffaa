/** The search box, which accepts free text and tokens. Completed tokens are shown as chips, and the input contains the
 * word being typed. The URL contains both. */
import { type KeyboardEvent, useEffect, useId, useMemo, useRef, useState } from 'react'
import { classes } from '../classes'
import {
  KEYS,
  type Key,
  type Known,
  parseToken,
  type Suggestion,
  type Suggestions,
  splitWords,
  suggest,
} from '../model/query'
import { factsOf } from '../model/rollout'
import type { Context } from '../model/standing'
import { useSnapshot } from '../store/useStore'
import { changeUrl, linkToView, useUrl } from '../url/useUrl'
import type { Pull } from '../wire/wire'
import { CopyButton } from './CopyButton'
import { Icon } from './Icon'
import styles from './SearchBox.module.css'
import { useShortcut } from './useShortcut'

const NO_SUGGESTIONS: Suggestions = { shown: [], more: 0 }

export function SearchBox() {
  const { query } = useUrl()
  const { pulls, shape, context } = useSnapshot()
  const input = useRef<HTMLInputElement>(null)
  const listId = useId()
  const [focused, setFocused] = useState(false)
  const [dismissed, setDismissed] = useState(false)
  const [marked, setMarked] = useState(-1)
  const [typing, setTyping] = useState('')
  const words = splitWords(query)
  const chips = words.filter(word => isToken(word) && !splitWords(typing).includes(word))
  const draft = typing !== '' ? typing : words.filter(word => !isToken(word)).join(' ')

  // The map of pulls is modified in place, so its identity does not change. `shape` is incremented whenever a pull's
  // state or pods change.
  const known = useMemo(
    () => (focused ? knownValues(pulls.values(), context) : undefined),
    [focused, pulls, shape, context],
  )
  const lastWord = draft.slice(draft.lastIndexOf(' ') + 1)
  const { shown: suggestions, more } =
    focused && !dismissed && known !== undefined ? suggest(lastWord, known) : NO_SUGGESTIONS
  const isOpen = suggestions.length > 0

  useShortcut('/', () => input.current?.focus())

  // Focus stays in the input, so the browser does not scroll the highlighted suggestion into view by itself.
  useEffect(() => {
    document.getElementById(`${listId}-${marked}`)?.scrollIntoView({ block: 'nearest' })
  }, [listId, marked])

  /** The input keeps the text being typed, including spaces. Typing a space after a token turns it into a chip. */
  const write = (text: string) => {
    const written = splitWords(text)
    const ended = text.endsWith(' ') ? written : written.slice(0, -1)
    setTyping(
      ended.some(isToken)
        ? written.filter(word => !ended.includes(word) || !isToken(word)).join(' ')
        : text.trimStart(),
    )
    setMarked(-1)
    setDismissed(false)
    put([...chips, ...written])
  }
  const put = (all: readonly string[]) => changeUrl({ query: all.join(' ') })

  const accept = ({ word, complete }: Suggestion) => {
    const before = splitWords(draft.slice(0, draft.length - lastWord.length))
    setMarked(-1)
    setTyping(complete ? '' : [...before, word].join(' '))
    put([...chips, ...before, word])
    input.current?.focus()
  }

  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>) => {
    const chosen = suggestions[marked]
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      const step = event.key === 'ArrowDown' ? 1 : -1
      setDismissed(false)
      if (isOpen)
        setMarked(
          (marked + step + suggestions.length + (marked < 0 && step < 0 ? 1 : 0)) % suggestions.length,
        )
    } else if (event.key === 'Enter') {
      if (chosen !== undefined) accept(chosen)
      else setTyping('')
      setDismissed(chosen === undefined)
    } else if (event.key === 'Escape') {
      if (isOpen && !dismissed) setDismissed(true)
      else if (draft !== '') {
        setTyping('')
        put(chips)
      } else input.current?.blur()
    } else if (event.key === 'Backspace' && draft === '') {
      const last = chips.at(-1)
      if (last === undefined) return
      setTyping(last)
    } else return
    event.preventDefault()
  }

  return (
    <search className={styles.box}>
      <Icon name="search" />
      <ul className={styles.chips} aria-label="Search tokens">
        {chips.map(chip => (
          <Chip key={chip} word={chip} onRemove={() => put(words.filter(word => word !== chip))} />
        ))}
      </ul>
      <input
        ref={input}
        className={styles.input}
        type="text"
        role="combobox"
        aria-label="Search pulls by image, node, namespace, pod, status, registry, limit or time"
        aria-describedby={more > 0 ? `${listId}-more` : undefined}
        aria-expanded={isOpen}
        aria-controls={listId}
        aria-autocomplete="list"
        aria-activedescendant={marked >= 0 ? `${listId}-${marked}` : undefined}
        placeholder={chips.length === 0 ? 'image, node, pod, status:failing…' : ''}
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        value={draft}
        onChange={event => write(event.target.value)}
        onKeyDown={onKeyDown}
        onFocus={() => {
          setFocused(true)
          setDismissed(false)
        }}
        onBlur={() => {
          setFocused(false)
          setTyping('')
        }}
      />
      {query !== '' && (
        <button
          type="button"
          className={styles.clear}
          aria-label="Clear the search"
          // Keeps the focus in the input, and keeps the button in place.
          onMouseDown={event => event.preventDefault()}
          onClick={() => {
            setTyping('')
            put([])
          }}
        >
          <Icon name="close" size={14} />
        </button>
      )}
      <kbd className={styles.hint} title="Press / to search">
        /
      </kbd>
      <CopyButton text={linkToView(context.now)}>Copy link</CopyButton>
      <div className={styles.list} hidden={!isOpen}>
        <div id={listId} role="listbox" aria-label="Suggestions">
          {suggestions.map((suggestion, at) => (
            // The focus stays in the input, which handles the keys.
            // biome-ignore lint/a11y/useFocusableInteractive: aria-activedescendant points here
            // biome-ignore lint/a11y/useKeyWithClickEvents: see above
            <div
              key={suggestion.word}
              id={`${listId}-${at}`}
              role="option"
              aria-selected={at === marked}
              className={classes(styles.option, at === marked && styles.marked)}
              onMouseDown={event => event.preventDefault()}
              onClick={() => accept(suggestion)}
            >
              <TokenWords word={suggestion.word} />
              {suggestion.hint !== '' && <span className={styles.about}>{suggestion.hint}</span>}
            </div>
          ))}
        </div>
        {more > 0 && (
          <p id={`${listId}-more`} className={styles.more}>
            {more} more: type to find them
          </p>
        )}
      </div>
    </search>
  )
}

function Chip({ word, onRemove }: { readonly word: string; readonly onRemove: () => void }) {
  return (
    <li>
      <button type="button" className={styles.chip} onClick={onRemove} aria-label={`Remove ${word}`}>
        <TokenWords word={word} />
        <Icon name="close" size={11} />
      </button>
    </li>
  )
}

function TokenWords({ word }: { readonly word: string }) {
  const colon = word.indexOf(':') + 1
  return (
    <span className={styles.token}>
      <span className={styles.key}>{word.slice(0, colon)}</span>
      <bdi>{word.slice(colon)}</bdi>
    </span>
  )
}

function isToken(word: string): boolean {
  return parseToken(word) !== undefined
}

/** All values that a search can currently find. */
function knownValues(pulls: Iterable<Pull>, context: Context): Known {
  const found = factsOf([...pulls], context)
  const facts = { ...found, status: [...found.status, ...found.spans.map(([, , status = '']) => status)] }
  return Object.fromEntries(KEYS.map(key => [key, new Set(facts[key])])) as Record<Key, Set<string>>
}
