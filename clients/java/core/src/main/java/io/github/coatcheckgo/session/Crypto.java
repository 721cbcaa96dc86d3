package io.github.coatcheckgo.session;

import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Arrays;
import javax.crypto.AEADBadTagException;
import javax.crypto.Cipher;
import javax.crypto.Mac;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/** The primitives of the format, on javax.crypto. */
final class Crypto {
    private Crypto() {}

    private static final SecureRandom RANDOM = new SecureRandom();
    static final int KEY = 32;

    static byte[] random(int n) {
        byte[] bytes = new byte[n];
        RANDOM.nextBytes(bytes);
        return bytes;
    }

    /** The format's hash: SHA-256, cut to 16 bytes, as base64url. */
    static String hash(byte[] bytes) {
        try {
            return Texts.base64(Arrays.copyOf(MessageDigest.getInstance("SHA-256").digest(bytes), 16));
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e); // every JDK has it
        }
    }

    static byte[] hmac(byte[] key, byte[]... parts) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            for (byte[] part : parts) {
                mac.update(part);
            }
            return mac.doFinal();
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** HKDF-SHA256 (RFC 5869) without a salt, for at most 32 bytes: one block. */
    static byte[] hkdf(byte[] key, String info, int length) {
        byte[] extracted = hmac(new byte[32], key);
        return Arrays.copyOf(hmac(extracted, Texts.bytes(info), new byte[] {1}), length);
    }

    /** Compares in constant time. */
    static boolean equal(String a, String b) {
        return MessageDigest.isEqual(Texts.bytes(a), Texts.bytes(b));
    }

    static byte[] seal(byte[] key, byte[] nonce, byte[] plain, byte[] associated) {
        try {
            return gcm(Cipher.ENCRYPT_MODE, key, nonce, plain, associated);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Returns the plain bytes, or null if the key does not open them. */
    static byte[] open(byte[] key, byte[] nonce, byte[] sealed, byte[] associated) {
        if (sealed.length < 16) {
            return null;
        }
        try {
            return gcm(Cipher.DECRYPT_MODE, key, nonce, sealed, associated);
        } catch (AEADBadTagException e) {
            return null;
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException(e);
        }
    }

    private static byte[] gcm(int mode, byte[] key, byte[] nonce, byte[] in, byte[] associated)
        throws GeneralSecurityException {
        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        cipher.init(mode, new SecretKeySpec(key, "AES"), new GCMParameterSpec(128, nonce));
        cipher.updateAAD(associated);
        return cipher.doFinal(in);
    }
}
