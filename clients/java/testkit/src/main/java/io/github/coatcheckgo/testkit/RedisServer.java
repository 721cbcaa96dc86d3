package io.github.coatcheckgo.testkit;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/**
 * A redis-server of the tests, on a free port of the loopback interface. It stops with the JVM at
 * the latest.
 */
public final class RedisServer implements AutoCloseable {
    public final int port;
    private final Path folder;
    private final List<String> command;
    private Process process;

    private RedisServer(String... options) throws IOException {
        try (ServerSocket free = new ServerSocket()) {
            free.bind(new InetSocketAddress("127.0.0.1", 0));
            port = free.getLocalPort();
        }
        folder = Files.createTempDirectory("coatcheck-java");
        command = new ArrayList<>(List.of("redis-server"));
        if (options.length > 0 && options[0].startsWith("sentinel ")) {
            Path config = folder.resolve("sentinel.conf"); // Sentinel rewrites it
            Files.writeString(config, "port " + port + "\nbind 127.0.0.1\ndir " + folder + "\n" + String.join("\n", options) + "\n");
            command.addAll(List.of(config.toString(), "--sentinel"));
        } else {
            command.addAll(List.of("--port", Integer.toString(port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", folder.toString(), "--loglevel", "warning", "--repl-diskless-sync-delay", "0"));
            command.addAll(List.of(options));
        }
        Runtime.getRuntime().addShutdownHook(new Thread(this::close));
        up();
    }

    /** Starts a server, with options such as "--maxmemory", "10mb". */
    public static RedisServer start(String... options) {
        try {
            return new RedisServer(options);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /**
     * Starts a Sentinel that promotes a replica of this server, as soon as the server is away for
     * 0.5 s.
     */
    public RedisServer sentinel(String name) {
        return start("sentinel monitor " + name + " 127.0.0.1 " + port + " 1", "sentinel down-after-milliseconds " + name + " 500",
            "sentinel failover-timeout " + name + " 5000");
    }

    /** Starts a replica of this server. */
    public RedisServer replica() {
        return start("--replicaof", "127.0.0.1 " + port);
    }

    /** The server that the environment names, or null. */
    public static String named() {
        return System.getenv("COATCHECK_TEST_REDIS");
    }

    public String url() {
        return "redis://127.0.0.1:" + port;
    }

    /** Starts the server again, and waits until it answers. */
    public void up() {
        try {
            process = new ProcessBuilder(command).redirectErrorStream(true)
                .redirectOutput(folder.resolve("log").toFile()).start();
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while (!answers()) {
                if (System.nanoTime() - deadline > 0 || !process.isAlive()) {
                    throw new IllegalStateException("redis-server does not start: " + Files.readString(folder.resolve("log")));
                }
                Thread.sleep(10);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    private boolean answers() {
        try (Socket s = new Socket("127.0.0.1", port)) {
            s.setSoTimeout(1000);
            OutputStream out = s.getOutputStream();
            out.write("PING\r\n".getBytes(StandardCharsets.US_ASCII));
            InputStream in = s.getInputStream();
            return in.read() == '+';
        } catch (IOException e) {
            return false;
        }
    }

    /** Kills the server. Its data is lost. */
    public void down() {
        process.destroyForcibly();
        try {
            process.waitFor();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /** The process, for its CPU time. */
    public ProcessHandle process() {
        return process.toHandle();
    }

    @Override
    public void close() {
        down();
        try (Stream<Path> files = Files.walk(folder)) {
            files.sorted(Comparator.reverseOrder()).forEach(f -> f.toFile().delete());
        } catch (IOException e) {
            // The folder is gone.
        }
    }
}
