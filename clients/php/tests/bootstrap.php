<?php

declare(strict_types=1);

// The packages of the system, or those of composer.
foreach ([dirname(__DIR__) . '/vendor/autoload.php', 'Nyholm/Psr7/autoload.php'] as $file) {
    if (stream_resolve_include_path($file) !== false) {
        require_once $file;
    }
}
spl_autoload_register(function (string $class): void {
    foreach (['Coatcheck\\Session\\Tests\\' => __DIR__, 'Coatcheck\\Session\\' => dirname(__DIR__) . '/src'] as $prefix => $folder) {
        $file = $folder . '/' . str_replace('\\', '/', substr($class, strlen($prefix))) . '.php';
        if (str_starts_with($class, $prefix) && is_file($file)) {
            require $file;
            return;
        }
    }
});
error_reporting(E_ALL);
