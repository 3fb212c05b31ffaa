"""The part of containerd's API that the agent uses: our own .proto files and the stubs generated from them.

The package names, message names and field numbers are those of containerd, and are the same in versions 1.6 to 2.4. The
choice of messages and the comments are our own. Stubs generated from containerd's own files would import the standard
library's ``types`` module by mistake (``from types import …``). Therefore, our .proto files form a separate package.

The stubs are generated with the oldest supported tools, grpcio-tools 1.68.0 (protobuf 5.28.1), by ``make stubs``. The
stubs work with protobuf 5.28.1, 5.29, 6.30, 6.33, 7.34 and 7.36, and with grpcio from 1.68.0 to 1.85.1. With older
versions of protobuf or grpcio, the stubs fail to load. Only protobuf 6.30 warns that the stubs were generated for the
previous major version.
"""
