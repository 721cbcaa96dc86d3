package io.github.coatcheckgo.session;

/** Where a session is in the store: its bucket, and the hash of its selector. */
record SessionId(String bucket, String name) {
    /** The public name of the session: for logs and lists. It grants no access. */
    String handle() {
        return bucket + "-" + name;
    }

    /** Returns the id of a handle, or null if the text is none. */
    static SessionId parse(String handle) {
        boolean valid = handle.length() == 27 && handle.charAt(4) == '-' && Texts.hex(handle.substring(0, 4)) >= 0
            && Texts.isHash(handle.substring(5));
        return valid ? new SessionId(handle.substring(0, 4), handle.substring(5)) : null;
    }

    String key(String namespace) {
        return namespace + ":{" + bucket + "}:s:" + name;
    }

    String revocationsKey(String namespace) {
        return namespace + ":{" + bucket + "}:n";
    }

    /** Returns the key of the data of a user. */
    static String dataKey(String namespace, String owner) {
        return namespace + ":{" + UserIndex.bucket(owner) + "}:d:" + owner;
    }

    static String indexKey(String namespace, String owner) {
        return namespace + ":{" + String.format("%04x", Keys.bucket(owner)) + "}:u:" + owner;
    }
}
