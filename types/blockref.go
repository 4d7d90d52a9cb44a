package types

// BlockRef names a block of the settlement chain by height and header hash. Inside signed data it proves that the data
// is not older than that block, because nobody knew the hash before.
type BlockRef struct {
	Height Height `json:"height"`
	Hash   Hash   `json:"hash"`
}
