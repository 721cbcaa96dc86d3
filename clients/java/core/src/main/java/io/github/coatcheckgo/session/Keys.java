package io.github.coatcheckgo.session;

import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The key ring: it signs tokens, seals values and names users. */
final class Keys {
    private static final int NONCE = 12;

    private record Key(byte[] key, byte[] token, byte[] sealId) {}

    private final List<Key> ring = new ArrayList<>();
    private final byte[] user;

    Keys(List<byte[]> keys, byte[] userKey) {
        for (byte[] key : keys) {
            ring.add(new Key(key.clone(), Crypto.hkdf(key, "coatcheck/1 token", 32), Crypto.hkdf(key, "coatcheck/1 seal id", 3)));
        }
        user = Crypto.hkdf(userKey == null ? new byte[Crypto.KEY] : userKey, "coatcheck/1 user", 32);
    }

    boolean sign() {
        return !ring.isEmpty();
    }

    /** The MAC of a token's bytes, with the first key. */
    byte[] mac(byte[] token) {
        return Arrays.copyOf(Crypto.hmac(ring.get(0).token, token), Token.MAC);
    }

    boolean verifies(byte[] token, byte[] mac) {
        boolean valid = false;
        for (Key key : ring) {
            valid |= MessageDigest.isEqual(Arrays.copyOf(Crypto.hmac(key.token, token), Token.MAC), mac);
        }
        return valid;
    }

    /** The owner that names a user in the store: 22 characters. */
    String owner(byte[] userId) {
        return Texts.base64(ownerBytes(userId));
    }

    private byte[] ownerBytes(byte[] userId) {
        return Arrays.copyOf(Crypto.hmac(user, userId), 16);
    }

    static int bucket(String owner) {
        byte[] bytes = Texts.fromBase64(owner);
        return (bytes[0] & 0xff) << 8 | bytes[1] & 0xff;
    }

    /** Seals a value of the session with this id. The name is that in the hash. */
    String seal(String sessionId, String name, byte[] plain) {
        return seal(sessionId, name, plain, Crypto.random(NONCE));
    }

    String seal(String sessionId, String name, byte[] plain, byte[] nonce) {
        Key key = ring.get(0);
        byte[] sealed = Crypto.seal(sealKey(key, sessionId), nonce, plain, associated(sessionId, name));
        byte[] all = Arrays.copyOf(key.sealId, 3 + NONCE + sealed.length);
        System.arraycopy(nonce, 0, all, 3, NONCE);
        System.arraycopy(sealed, 0, all, 3 + NONCE, sealed.length);
        return "~1" + Texts.base64(all);
    }

    static boolean isSealed(byte[] value) {
        return value.length > 0 && value[0] == '~';
    }

    /** Opens a stored value. A value that is not sealed is returned as it is. */
    byte[] open(String sessionId, String name, byte[] value) {
        if (!isSealed(value)) {
            return value;
        }
        byte[] all = parts(name, value);
        byte[] nonce = Arrays.copyOfRange(all, 3, 3 + NONCE);
        byte[] sealed = Arrays.copyOfRange(all, 3 + NONCE, all.length);
        for (Key key : ring) {
            if (Arrays.equals(key.sealId, 0, 3, all, 0, 3)) {
                byte[] plain = Crypto.open(sealKey(key, sessionId), nonce, sealed, associated(sessionId, name));
                if (plain != null) {
                    return plain;
                }
            }
        }
        throw new SessionException(SessionException.Kind.SEALED, name + ": no key opens the value");
    }

    /** Seals a stored value again, for another id. A value in clear is returned as it is. */
    byte[] resealed(String name, byte[] value, String from, String to) {
        return isSealed(value) ? Texts.bytes(seal(to, name, open(from, name, value))) : value;
    }

    /**
     * Throws SEALED if a value is sealed and its key is not in the ring. It does not open the
     * value.
     */
    void check(String name, byte[] value) {
        if (!isSealed(value)) {
            return;
        }
        byte[] all = parts(name, value);
        for (Key key : ring) {
            if (Arrays.equals(key.sealId, 0, 3, all, 0, 3)) {
                return;
            }
        }
        throw new SessionException(SessionException.Kind.SEALED, name + ": its key is missing");
    }

    private static byte[] parts(String name, byte[] value) {
        String text = Texts.utf8(value);
        byte[] all = text != null && text.startsWith("~1") ? Texts.fromBase64(text.substring(2)) : null;
        if (all == null || all.length < 3 + NONCE + 16) {
            throw new SessionException(SessionException.Kind.SEALED, name + ": not a sealed value of this version");
        }
        return all;
    }

    private static byte[] sealKey(Key key, String sessionId) {
        return Crypto.hkdf(key.key, "coatcheck/1 seal " + sessionId, 32);
    }

    private static byte[] associated(String sessionId, String name) {
        byte[] id = Texts.fromBase64(sessionId);
        byte[] text = Texts.bytes(name);
        byte[] all = Arrays.copyOf(id, id.length + text.length);
        System.arraycopy(text, 0, all, id.length, text.length);
        return all;
    }
}
