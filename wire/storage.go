package wire

// MaxBlob bounds what a peer keeps for another: some 1,500 channels without locks.
const MaxBlob = MaxQuery - 1024

// StorageRequest asks a peer to keep Blob in place of what it kept before, or, when that is empty, for what it keeps (like BOLT 1's
// peer_storage and peer_storage_retrieval).
type StorageRequest struct{ Blob []byte }

// StorageAnswer answers a StorageRequest.
type StorageAnswer struct {
	// Blob is what is kept; empty: nothing, or the request was to keep something.
	Blob []byte
	// Refused says why nothing was kept.
	Refused string
}

// Encode returns the request's bytes.
func (q StorageRequest) Encode() []byte {
	return append(be.AppendUint32(make([]byte, 0, 4+len(q.Blob)), uint32(len(q.Blob))), q.Blob...)
}

// DecodeStorageRequest parses strictly. Errors wrap ErrMalformed.
func DecodeStorageRequest(b []byte) (StorageRequest, error) {
	r := reader{b: b}
	q := StorageRequest{Blob: r.long(MaxBlob)}
	return q, r.end("request to keep a backup")
}

// Encode returns the answer's bytes.
func (a StorageAnswer) Encode() []byte {
	return append(be.AppendUint32(appendBytes(nil, a.Refused), uint32(len(a.Blob))), a.Blob...)
}

// DecodeStorageAnswer parses strictly. Errors wrap ErrMalformed.
func DecodeStorageAnswer(b []byte) (StorageAnswer, error) {
	r := reader{b: b}
	a := StorageAnswer{Refused: r.text(), Blob: r.long(MaxBlob)}
	return a, r.end("answer about a backup")
}
