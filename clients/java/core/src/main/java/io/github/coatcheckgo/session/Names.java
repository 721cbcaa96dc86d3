package io.github.coatcheckgo.session;

/** The grammar of the names of fields and entries. */
final class Names {
    private Names() {}

    static final int MAX_NAME = 64;
    static final int MAX_ENTRY = 256;

    /** Returns what is wrong with the name of a field or of an entry ("field:key"), or null. */
    static String check(String name) {
        if (!isField(field(name))) {
            return "the name of a field has 1 to 64 of a-z A-Z 0-9 . _ -";
        }
        int colon = name.indexOf(':');
        if (colon >= 0) {
            String key = name.substring(colon + 1);
            if (Texts.hasLoneSurrogate(key)) {
                return "the key of an entry is not Unicode";
            }
            if (Texts.bytes(key).length > MAX_ENTRY) {
                return "the key of an entry has at most 256 bytes";
            }
        }
        return null;
    }

    /** Returns the field of a name: "cart" of "cart:apple". */
    static String field(String name) {
        int colon = name.indexOf(':');
        return colon < 0 ? name : name.substring(0, colon);
    }

    static boolean isField(String name) {
        if (name.isEmpty() || name.length() > MAX_NAME) {
            return false;
        }
        for (int i = 0; i < name.length(); i++) {
            char c = name.charAt(i);
            if (!Texts.isAlphanumeric(c) && c != '.' && c != '_' && c != '-') {
                return false;
            }
        }
        return true;
    }
}
