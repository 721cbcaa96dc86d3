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
    public Optional<T> get(Data d) {
        byte[] value = d.value(name);
        return value == null ? Optional.empty() : Optional.ofNullable(decode(codec, name, value));
    }

    /** Returns the value, or another one if it is unset. */
    public T get(Data d, T otherwise) {
        return get(d).orElse(otherwise);
    }

    /** Reports whether a value is stored, also a JSON null. */
    public boolean isSet(Data d) {
        return d.value(name) != null;
    }

    /** Sets the value. The commit stores it. */
    public void set(Data d, T value) {
        d.set(name, () -> encode(codec, name, value));
    }

    /** Unsets the value. */
    public void delete(Data d) {
        d.change(Op.of("unset", name));
    }

    /** Removes the value and returns it, to one request only. It commits. */
    public Optional<T> take(Data d) {
        byte[] value = d.atomic.take(name);
        return value == null ? Optional.empty() : Optional.ofNullable(decode(codec, name, value));
    }

    /**
     * Replaces the value by what f makes of it, atomically, and commits. f may be called again if
     * another request changes the value meanwhile; it gets nothing if the value is unset.
     */
    public T update(Data d, Function<Optional<T>, T> f) {
        return d.atomic.update(name, present -> {
            T next = f.apply(present == null ? Optional.empty() : Optional.ofNullable(decode(codec, name, present)));
            return new AtomicChanges.Updated<>(next, encode(codec, name, next));
        });
    }
}
