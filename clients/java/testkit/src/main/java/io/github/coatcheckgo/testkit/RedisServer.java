package io.github.coatcheckgo.testkit;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.net.BindException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
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
        port = freePort();
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
    }

    /**
     * Returns a port below the range from which systems take ports for outgoing connections. So
     * nobody takes it while the server is down.
     */
    private static int freePort() throws IOException {
        while (true) {
            int port = ThreadLocalRandom.current().nextInt(16_000, 32_000);
            try (ServerSocket free = new ServerSocket()) {
                free.bind(new InetSocketAddress("127.0.0.1", port));
                return port;
            } catch (BindException e) {
                // Another process has it.
            }
        }
    }

    /** Starts a server, with options such as "--maxmemory", "10mb". */
    public static RedisServer start(String... options) {
        for (int n = 1;; n++) {
            try {
                RedisServer server = new RedisServer(options);
                server.up();
                return server;
            } catch (PortTaken e) {
                if (n == 10) {
                    throw e;
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    private static final class PortTaken extends IllegalStateException {
        private static final long serialVersionUID = 1;

        PortTaken(String log) {
            super("redis-server does not start: " + log);
        }
    }

    /**
     * Starts a Sentinel that promotes a replica of this server, as soon as the server is away for a
     * minute. {@code SENTINEL SET} shortens that. A busy machine may stop a server for a while.
     */
    public RedisServer sentinel(String name) {
        return start("sentinel monitor " + name + " 127.0.0.1 " + port + " 1", "sentinel down-after-milliseconds " + name + " 60000",
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
                if (!process.isAlive()) {
                    throw new PortTaken(Files.readString(folder.resolve("log")));
                }
                if (System.nanoTime() - deadline > 0) {
                    throw new IllegalStateException("redis-server does not answer: " + Files.readString(folder.resolve("log")));
                }
                Thread.sleep(10);
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Reports whether this server answers, and not another one on its port. */
    private boolean answers() {
        try (Socket s = new Socket("127.0.0.1", port)) {
            s.setSoTimeout(10_000);
            s.getOutputStream().write("INFO server\r\n".getBytes(StandardCharsets.US_ASCII));
            BufferedReader in = new BufferedReader(new InputStreamReader(s.getInputStream(), StandardCharsets.UTF_8));
            String line = in.readLine();
            while (line != null && !line.startsWith("-") && !line.startsWith("process_id:")) {
                line = in.readLine();
            }
            return ("process_id:" + process.pid()).equals(line);
        } catch (IOException e) {
            return false;
        }
    }

    /** Kills the server. Its data is lost. */
    public void down() {
        if (process == null) {
            return;
        }
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
