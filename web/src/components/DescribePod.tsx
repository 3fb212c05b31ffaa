import { CopyButton } from './CopyButton'

interface Props {
  readonly pod: { readonly namespace: string; readonly podName: string }
}

export function DescribePod({ pod: { namespace, podName } }: Props) {
  return <CopyButton text={`kubectl -n ${namespace} describe pod ${podName}`}>kubectl describe</CopyButton>
}
