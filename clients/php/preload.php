<?php

declare(strict_types=1);

// For the setting opcache.preload: PHP then loads the classes once, and not in each request.
foreach (glob(__DIR__ . '/src/*.php') ?: [] as $file) {
    opcache_compile_file($file);
}
