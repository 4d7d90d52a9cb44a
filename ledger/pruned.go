package ledger

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Pruned says that what a block did is not kept here: the block is too old, or this node started from a snapshot after it.
// What the ledger holds now is known all the same. It is an ErrNotFound.
type Pruned struct {
	// Asked is the block asked for, First the first that is kept.
	Asked, First types.Height
}

func (p *Pruned) Error() string {
	return fmt.Sprintf("block %d is not kept here, the first that is kept is block %d; ask from there, or ask a node that keeps all blocks", p.Asked, p.First)
}

// Is makes a Pruned an ErrNotFound.
func (p *Pruned) Is(target error) bool { return target == ErrNotFound }
