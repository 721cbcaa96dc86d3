package io.github.coatcheckgo.session;

/** A field with one count. Concurrent additions add up. It is exact to 64 bits. */
public final class Counter extends Field {
    private Counter(String name) {
        super(name);
    }

    /** Declares a field. Its name has 1 to 64 of a-z A-Z 0-9 . _ - */
    public static Counter of(String name) {
        return new Counter(name);
    }

    /** Returns the count as this request sees it. It is 0 if the field is unset. */
    public long get(Session s) {
        return count(name, s.stored(name));
    }

    /** Adds n, which may be negative. A sum that does not fit in 64 bits fails the commit as INVALID. */
    public void add(Session s, long n) {
        s.change(Op.add(name, n));
    }

    /** Unsets the field. */
    public void reset(Session s) {
        s.change(Op.of("unset", name));
    }
}
