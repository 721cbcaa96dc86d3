package io.github.coatcheckgo.session;

import java.security.MessageDigest;

/** CSRF tokens, derived from a session's id. */
final class Csrf {
    private Csrf() {}

    private static final int SIZE = 18;

    private static byte[] key(String sessionId) {
        return Crypto.hkdf(Texts.fromBase64(sessionId), "coatcheck/1 csrf", SIZE);
    }

    static String token(String sessionId) {
        return token(sessionId, Crypto.random(SIZE));
    }

    static String token(String sessionId, byte[] pad) {
        byte[] key = key(sessionId);
        byte[] all = new byte[2 * SIZE];
        for (int i = 0; i < SIZE; i++) {
            all[i] = pad[i];
            all[SIZE + i] = (byte) (pad[i] ^ key[i]);
        }
        return Texts.base64(all);
    }

    static boolean isValid(String sessionId, String token) {
        byte[] all = token.length() == 48 ? Texts.fromBase64(token) : null;
        if (all == null) {
            return false;
        }
        byte[] key = new byte[SIZE];
        for (int i = 0; i < SIZE; i++) {
            key[i] = (byte) (all[i] ^ all[SIZE + i]);
        }
        return MessageDigest.isEqual(key, key(sessionId));
    }
}
