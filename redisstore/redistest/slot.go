package redistest

import "strings"

// Slot returns the Cluster slot of a key. That is the CRC-16 (XMODEM) of the key's hash tag, or of
// the whole key if it has no tag, modulo 16384.
func Slot(key string) int {
	if _, rest, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % slots)
}

// slots is the number of slots of a Cluster.
const slots = 16384
