package main

import (
	"context"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

type backupsAPI struct{ s *server }

func (a backupsAPI) Status(context.Context, *chandv1.BackupStatusRequest) (*chandv1.BackupStatus, error) {
	out := &chandv1.BackupStatus{}
	if f := a.s.backup; f != nil {
		st, behind := f.status()
		out.File, out.FileBytes, out.FileTime, out.FileBehind, out.FileProblem = f.path, uint64(st.Bytes), pbTime(st.Time), uint64(behind), st.Problem
	}
	keepers, omitted := a.s.daemon.Keepers()
	for _, k := range keepers {
		out.Keepers = append(out.Keepers, &chandv1.BackupKeeper{Peer: k.Node.String(), Time: pbTime(k.At), Bytes: uint32(k.Size), Problem: k.Problem})
	}
	out.Omitted = uint32(omitted)
	return out, nil
}
