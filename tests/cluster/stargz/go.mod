// stargz-snapshotter: its library, with a main of ours. A module of its own, because it selects its own versions.
module pulltrace/tests/cluster/stargz

go 1.26.6

require (
	github.com/containerd/stargz-snapshotter v0.19.1
	github.com/containerd/stargz-snapshotter/estargz v0.19.1
)
