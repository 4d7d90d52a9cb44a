// Package seedfile reads the seed phrase of a daemon from a file.
package seedfile

import (
	"fmt"
	"os"
	"strings"

	"github.com/tyler-smith/go-bip39"

	"github.com/eschaton-network/chand/types"
)

// Name is the file's name in a home.
const Name = "seed.txt"

// Read reads a file that holds a BIP 39 phrase and nothing else. Errors wrap os.ErrNotExist when there is none.
func Read(path string) (seed types.Seed, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return seed, err
	}
	b, err := bip39.NewSeedWithErrorChecking(strings.Join(strings.Fields(string(raw)), " "), "")
	if err != nil {
		return seed, fmt.Errorf("%s does not hold a BIP 39 phrase (%w): restore the 24 words from your copy; nothing was changed", path, err)
	}
	return types.Seed(b), nil
}
