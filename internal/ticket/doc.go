// Package ticket makes and checks what package session hands out: the tokens that browsers hold,
// the sealed values that stores keep, the hashes that name users to stores, and CSRF tokens. It
// does no I/O. Its only state is a [Ring], which holds the keys.
//
// # Tokens
//
// A token is a random credential for one session. These are its bytes; numbers are big-endian:
//
//	 0      version: 1
//	 1–2    bucket: groups sessions in the store; all sessions of a user share one
//	 3–18   selector: finds the record
//	19–22   generation: how many verifiers this session had before
//	23–38   verifier: the record holds its hash
//	39–56   MAC of the bytes before it; present if the Ring has keys
//
// Its text is base64url without padding: 52 characters, or 76 with a MAC. Both lengths are
// multiples of three bytes. So no character has unused bits, and each token has exactly one text.
//
// # Sealed values
//
// A sealed value is an encrypted value of a session. It is the text "~1", followed by the base64url
// form, without padding, of these bytes:
//
//	 0–2    id of the key
//	 3–14   random nonce
//	15–     the value, encrypted with AES-256-GCM, and the tag of 16 bytes
//
// No JSON begins with "~", so a sealed value is never mistaken for a plain one. Each sealed value
// has exactly one text.
//
// The associated data are the 16 bytes of the session's "@id" and the name under which the value is
// stored. So a value does not open in another session, field or entry. Each session has its own
// key, so random nonces do not run out however long a key of the Ring is in use. The id of the key
// shows, without decryption, that a key is missing.
//
// # CSRF tokens
//
// A CSRF token proves that a page of the session made a request. It is the base64url form, without
// padding, of a random pad of 18 bytes and the session's CSRF key XORed with the pad: 48
// characters. The pad makes each token different, so that compression of a page does not reveal the
// key (BREACH).
//
// # Derived keys
//
// No key serves two purposes. Each is derived with HKDF-SHA256, without salt, from a key of the
// Ring, from the user key or from a session's "@id". These are the info strings:
//
//	coatcheck/1 token     signs tokens: HMAC-SHA256, of which a token has the first 18 bytes
//	coatcheck/1 seal @id  seals one session's values; @id stands for the text of its "@id"
//	coatcheck/1 seal id   is the key's id in sealed values: 3 bytes
//	coatcheck/1 event     seals the events that nodes send each other
//	coatcheck/1 user      names users: HMAC-SHA256, of which the store gets the first 16 bytes
//	coatcheck/1 csrf      is a session's CSRF key, derived from its "@id": 18 bytes
//
// format/README.md specifies the formats for other languages. format/vectors has test vectors.
package ticket
