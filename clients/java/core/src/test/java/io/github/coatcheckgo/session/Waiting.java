package io.github.coatcheckgo.session;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/** Waits for what a busy machine may be late with. */
final class Waiting {
    private Waiting() { }

    /** Waits until the condition is true. */
    static void await(BooleanSupplier condition) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < deadline, "it did not happen within 60 s");
            pause();
        }
    }

    /** Repeats the body until it throws no SessionException. */
    static <T> T eventually(Supplier<T> body) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (true) {
            try {
                return body.get();
            } catch (SessionException e) {
                if (System.nanoTime() > deadline) {
                    throw e;
                }
                pause();
            }
        }
    }

    private static void pause() {
        try {
            Thread.sleep(10); // a busy machine needs the processor for what the test waits for
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
