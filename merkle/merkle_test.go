package merkle

import (
	"encoding/hex"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// rfc6962 computes a root as RFC 6962 section 2.1 defines it.
func rfc6962(leaves []types.Hash) types.Hash {
	switch len(leaves) {
	case 0:
		return EmptyRoot
	case 1:
		return leaves[0]
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	return NodeHash(rfc6962(leaves[:k]), rfc6962(leaves[k:]))
}

// TestVectors are those of the certificate-transparency reference implementation (also in RFC 6962 libraries): roots over
// the first n of eight inputs.
func TestVectors(t *testing.T) {
	inputs := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var leaves []types.Hash
	for n, want := range roots {
		if got := RootOf(leaves); got.String() != want {
			t.Errorf("%d leaves: %s, want %s", n, got, want)
		}
		if n < len(inputs) {
			b, _ := hex.DecodeString(inputs[n])
			leaves = append(leaves, LeafHash(b))
		}
	}
}

func someHash(t *rapid.T, label string) types.Hash {
	// A small space, so that keys and values repeat and share prefixes.
	return types.Hash{byte(rapid.IntRange(0, 3).Draw(t, label)) << 6, byte(rapid.IntRange(0, 40).Draw(t, label))}
}

func TestTreeMatchesDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		var leaves []types.Hash
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				h := someHash(t, "leaf")
				tree.Set(len(leaves), h)
				leaves = append(leaves, h)
			},
			"replace": func(t *rapid.T) {
				if len(leaves) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(leaves)-1).Draw(t, "i")
				leaves[i] = someHash(t, "leaf")
				tree.Set(i, leaves[i])
			},
			"compare": func(t *rapid.T) {
				if got, want := tree.Root(), rfc6962(leaves); got != want {
					t.Fatalf("%d leaves: %s, want %s", len(leaves), got, want)
				}
			},
			"prove": func(t *rapid.T) {
				if len(leaves) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(leaves)-1).Draw(t, "i")
				path, n := tree.Prove(i), uint64(len(leaves))
				root := rfc6962(leaves)
				if err := VerifyPath(root, leaves[i], uint64(i), n, path); err != nil {
					t.Fatal(err)
				}
				wrong := leaves[i]
				wrong[31]++
				for what, err := range map[string]error{
					"another leaf": VerifyPath(root, wrong, uint64(i), n, path),
					"longer path":  VerifyPath(root, leaves[i], uint64(i), n, append(append([]types.Hash{}, path...), root)),
					"out of range": VerifyPath(root, leaves[i], n, n, path),
				} {
					if !errors.Is(err, ErrProof) {
						t.Fatalf("%s: %v", what, err)
					}
				}
				if len(path) > 0 {
					if err := VerifyPath(root, leaves[i], uint64(i), n, path[1:]); !errors.Is(err, ErrProof) {
						t.Fatal("shorter path holds")
					}
				}
			},
		})
	})
}

func TestMapMatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m Map
		model := map[types.Hash]types.Hash{}
		check := func(t *rapid.T) {
			if m.Len() != len(model) {
				t.Fatalf("%d keys, want %d", m.Len(), len(model))
			}
			var fresh Map // the root depends on the content alone
			for k, v := range model {
				fresh.Set(k, v)
			}
			root := m.Root()
			if root != fresh.Root() {
				t.Fatal("root depends on history")
			}
			key := someHash(t, "key")
			want, there := model[key]
			if got, ok := m.Get(key); ok != there || got != want {
				t.Fatal("Get differs")
			}
			proof := m.Prove(key)
			got, found, err := proof.Verify(root, key)
			if err != nil || found != there || got != want {
				t.Fatalf("proof: %v %v %v", got, found, err)
			}
			if _, _, err := proof.Verify(types.Hash{1}, key); !errors.Is(err, ErrProof) {
				t.Fatal("proof holds for another root")
			}
			if there {
				proof.Leaf = &MapLeaf{key, types.Hash{99}}
				if _, _, err := proof.Verify(root, key); err == nil {
					t.Fatal("another value proved")
				}
				proof.Leaf = nil
				if _, _, err := proof.Verify(root, key); err == nil {
					t.Fatal("absence of a present key proved")
				}
			} else {
				proof.Leaf = &MapLeaf{key, types.Hash{99}}
				if _, _, err := proof.Verify(root, key); err == nil {
					t.Fatal("presence of an absent key proved")
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				k, v := someHash(t, "key"), someHash(t, "value")
				m.Set(k, v)
				model[k] = v
			},
			"delete": func(t *rapid.T) {
				k := someHash(t, "key")
				_, there := model[k]
				if m.Delete(k) != there {
					t.Fatal("Delete differs")
				}
				delete(model, k)
			},
			"": check,
		})
	})
}

func TestMapProofOffPath(t *testing.T) {
	var m Map
	a, b := types.Hash{0x00}, types.Hash{0x80}
	m.Set(a, types.Hash{1})
	m.Set(b, types.Hash{2})
	p := m.Prove(a)
	p.Leaf = &MapLeaf{b, types.Hash{2}}
	if _, _, err := p.Verify(m.Root(), a); !errors.Is(err, ErrProof) {
		t.Fatal("a leaf off the path was accepted")
	}
	p.Siblings = make([]types.Hash, MaxDepth+1)
	if _, _, err := p.Verify(m.Root(), a); !errors.Is(err, ErrProof) {
		t.Fatal("a path beyond the depth was accepted")
	}
}

func BenchmarkTreeDirty(b *testing.B) {
	var t Tree
	for i := range 1 << 16 {
		t.Set(i, types.Hash{byte(i), byte(i >> 8)})
	}
	t.Root()
	n := uint32(0)
	for b.Loop() {
		for range 1000 {
			n += 7919
			t.Set(int(n%(1<<16)), types.Hash{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		}
		t.Root()
	}
}
