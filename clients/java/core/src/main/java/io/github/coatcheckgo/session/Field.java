package io.github.coatcheckgo.session;

/**
 * A {@link Value}, a {@link MapField}, a {@link Counter} or {@link Counters}. {@link
 * Config#userFields} takes them.
 */
public abstract sealed class Field permits Value, MapField, Counter, Counters {
    /** The name of the field. */
    public final String name;

    Field(String name) {
        if (!Names.isField(name)) {
            throw new IllegalArgumentException("the name of a field has 1 to 64 of a-z A-Z 0-9 . _ -: " + name);
        }
        this.name = name;
    }

    /**
     * Reports whether counts are added when the field moves to the data of a user. Other values
     * replace those of the user.
     */
    boolean adds() {
        return false;
    }

    static <T> byte[] encode(Codec<T> codec, String name, T value) {
        try {
            String json = codec.encode(value);
            if (json == null || Texts.hasLoneSurrogate(json)) {
                throw new IllegalArgumentException("a text that is not Unicode");
            }
            Json.parse(json); // other programs read it
            return Texts.bytes(json);
        } catch (Exception e) {
            throw new SessionException(SessionException.Kind.INVALID, "field " + name + ": " + e.getMessage(), e);
        }
    }

    static <T> T decode(Codec<T> codec, String name, byte[] value) {
        try {
            String json = Texts.utf8(value);
            if (json == null) {
                throw new IllegalArgumentException("not UTF-8");
            }
            return codec.decode(json);
        } catch (Exception e) {
            throw new SessionException(SessionException.Kind.DECODE, "field " + name + ": " + e.getMessage(), e);
        }
    }

    static long count(String name, byte[] value) {
        Long n = value == null ? Long.valueOf(0) : Op.integer(value);
        if (n == null) {
            throw new SessionException(SessionException.Kind.DECODE, "field " + name + ": not a counter");
        }
        return n;
    }
}
