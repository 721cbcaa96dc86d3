package io.github.coatcheckgo.session;

import java.util.Optional;
import java.util.function.Function;

/**
 * A field with one value. The last write of this field wins; {@link #update} is atomic. Declare a
 * field once, as a constant.
 *
 * @param <T> the type of the value
 */
public final class Value<T> extends Field {
    private final Codec<T> codec;

    private Value(String name, Codec<T> codec) {
        super(name);
        this.codec = codec;
    }

    /** Declares a field. Its name has 1 to 64 of a-z A-Z 0-9 . _ - */
    public static <T> Value<T> of(String name, Codec<T> codec) {
        return new Value<>(name, codec);
    }

    /** Declares a field of texts. */
    public static Value<String> of(String name) {
        return new Value<>(name, Codec.STRING);
    }

    /**
     * Returns the value, or nothing if it is unset. It does not talk to the store.
     *
     * @throws SessionException DECODE if the stored value has another type; SEALED
     */
    public Optional<T> get(Session s) {
        byte[] value = s.value(name);
        return value == null ? Optional.empty() : Optional.ofNullable(decode(codec, name, value));
    }

    /** Returns the value, or another one if it is unset. */
    public T get(Session s, T otherwise) {
        return get(s).orElse(otherwise);
    }

    /** Reports whether a value is stored, also a JSON null. */
    public boolean isSet(Session s) {
        return s.value(name) != null;
    }

    /** Sets the value. The commit stores it. */
    public void set(Session s, T value) {
        s.set(name, () -> encode(codec, name, value));
    }

    /** Unsets the value. */
    public void delete(Session s) {
        s.change(Op.of("unset", name));
    }

    /** Removes the value and returns it, to one request only. It commits. */
    public Optional<T> take(Session s) {
        byte[] value = s.atomic.take(name);
        return value == null ? Optional.empty() : Optional.ofNullable(decode(codec, name, value));
    }

    /**
     * Replaces the value by what f makes of it, atomically, and commits. f may be called again if
     * another request changes the value meanwhile; it gets nothing if the value is unset.
     */
    public T update(Session s, Function<Optional<T>, T> f) {
        return s.atomic.update(name, present -> {
            T next = f.apply(present == null ? Optional.empty() : Optional.ofNullable(decode(codec, name, present)));
            return new AtomicChanges.Updated<>(next, encode(codec, name, next));
        });
    }
}
